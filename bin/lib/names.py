"""Sentences with names that a recogniser has hardly heard, to be synthesised."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["DISTRACTORS", "NAMES", "READ", "in_text", "sentences"]

NAMES = (
    "Ronicky Doone",
    "Quillan Vesk",
    "Thaddeus Brackenridge",
    "Siobhan O'Rafferty",
    "Ezra Pemberthy",
    "Calista Vandermeer",
    "Jedediah Stroud",
    "Anneliese Kowalczyk",
    "Tobias McGillicuddy",
    "Rosalind DeVries",
    "Zebulon Pike-Hartman",
    "Ottoline Farquhar",
    "Lysander Okonkwo",
    "Marguerite Delacroix",
    "Ignatius Thornbury",
    "Priya Raghunathan",
    "Gwendolyn Abernathy",
    "Balthazar Quist",
    "Saoirse Kinnally",
    "Emmeline Tregarthen",
    "Mantelish",
    "Fayle",
    "Holati",
    "Brannoch",
    "Zylphia",
    "Drogheda",
    "Kestrelmoor",
    "Ashkelon",
    "Tamsin",
    "Vashti",
    "Corriveau",
    "Yevgenia",
    "Oberholtzer",
    "Penhaligon",
    "Wozniacki",
    "Nkemdiche",
    "Featherstonehaugh",
    "Skarsgard",
    "Zoë Björnson",
    "Amalthea",
    "Lubomir",
    "Tenniel",
)

READ = tuple(
    [
        "Quillan",
        "Mantelish",
        "Fayle",
        "Holati",
        "Gess",
        "Puya",
        "Maccadon",
        "Graham",
        "Paredes",
        "Rawlins",
        "Smithtown",
        "Howells",
        "Katherine",
        "Silas",
        "Blackburn",
        "Carlos",
        "Jenkins",
        "Hartley",
        "Galiani",
        "Helvetius",
        "Bentham",
        "Flaubert",
        "Candice",
        "Kyoto",
        "Tina",
        "Chekhov",
        "Lynda",
        "Jayme",
        "Canberra",
        "Steven",
        "Nate",
        "Aaron",
        "Lilly",
        "Cairo",
        "Lisa",
        "Betty",
        "Andy",
        "Steve",
        "Teddy",
        "Bobby",
    ]
)
"""Names in clips of LibriVox, Common Voice and speechocean762."""

_SENTENCES = (
    "Nobody in the valley could ride a horse like {}.",
    "Then {} opened the door and looked at the two men.",
    "The letter was addressed to {}, but it never arrived.",
    "It was {}'s idea to leave before the sun came up.",
    "I asked {} whether the road to the north was still open.",
    "After supper they sat by the fire and talked about {}.",
    "When {} laughed, everyone at the table turned around.",
    "She had borrowed the lantern from {} the week before.",
    "You may trust {}, said the old man, with your life.",
    "We found {}'s coat hanging on a nail in the barn.",
    "In the morning {} was gone, and so was the money.",
    "There is only one person who knows, and that is {}.",
)

DISTRACTORS = tuple(
    [
        "Aldershot",
        "Amundsen",
        "Anastasia",
        "Archibald",
        "Arkwright",
        "Atherton",
        "Bartholomew",
        "Beaumont",
        "Bellweather",
        "Benedikt",
        "Birkenhead",
        "Blackwood",
        "Bogdanov",
        "Bramwell",
        "Brigitte",
        "Bronislaw",
        "Callahan",
        "Carmichael",
        "Carruthers",
        "Cassandra",
        "Chatterjee",
        "Clementine",
        "Cholmondeley",
        "Constantine",
        "Cordelia",
        "Cunningham",
        "Dagmar",
        "Dalhousie",
        "Delphine",
        "Desmond",
        "Dinsmore",
        "Dombrowski",
        "Eberhardt",
        "Eleanora",
        "Ellington",
        "Esperanza",
        "Fairweather",
        "Ferdinand",
        "Fitzgerald",
        "Fortescue",
        "Gallagher",
        "Galveston",
        "Gilchrist",
        "Giovanna",
        "Goldsworthy",
        "Gottfried",
        "Grimaldi",
        "Gustavson",
        "Hargreaves",
        "Hathaway",
        "Heathcliff",
        "Hendricks",
        "Hollingsworth",
        "Humboldt",
        "Iphigenia",
        "Isidore",
        "Jacqueline",
        "Jankowski",
        "Jorgensen",
        "Kaminski",
        "Katarina",
        "Kensington",
        "Kilpatrick",
        "Kirkpatrick",
        "Lancaster",
        "Leopold",
        "Llewellyn",
        "Lorenzo",
        "Ludmila",
        "MacAllister",
        "Magdalena",
        "Marchetti",
        "Maximilian",
        "Melisande",
        "Montgomery",
        "Mukherjee",
        "Nathaniel",
        "Nottingham",
        "Oglethorpe",
        "Olszewski",
        "Pargeter",
        "Pendragon",
        "Petronella",
        "Pomeroy",
        "Quentin",
        "Radcliffe",
        "Rasmussen",
        "Rodrigo",
        "Rosencrantz",
        "Rutherford",
        "Sandoval",
        "Sebastian",
        "Shackleton",
        "Sigismund",
        "Stanislav",
        "Tarkington",
        "Tchernov",
        "Underhill",
        "Valentina",
        "Wetherby",
    ]
)


def sentences(each: int) -> list[tuple[str, str]]:
    """Names and sentences, `each` of every name, other ones for its neighbours."""
    return [
        (name, _SENTENCES[(each * place + number) % len(_SENTENCES)].format(name))
        for place, name in enumerate(NAMES)
        for number in range(each)
    ]


def in_text(names: Sequence[str], text: str) -> Counter[str]:
    """How often each name stands in a text, the longest first where one is in another.

    Arguments:
        names, text: normalised alike, words with single spaces between them.
    """
    found: Counter[str] = Counter()
    rest = f" {text} "
    for name in sorted(names, key=len, reverse=True):
        words = re.compile(f" {re.escape(name)}(?= )")
        found[name] = len(words.findall(rest))
        rest = words.sub(" |", rest)
    return found
