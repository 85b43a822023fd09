"use strict";
(() => {
  const {rate, rows} = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 50;
  const number = (value, digits) => value === null ? "" : value.toFixed(digits);
  for (const row of rows) {
    const [hits, substitutions, deletions, insertions] = row.counts;
    row.errors = substitutions + deletions + insertions;
    row.length = hits + substitutions + deletions;
    row.rate = row.length ? 100 * row.errors / row.length : (row.errors ? Infinity : 0);
    row.found = [row.id, row.speaker || "", ...row.pieces.flat()].join(" ").toLowerCase();
  }
  const has = key => rows.some(row => row[key] !== null);
  const columns = [
    {name: "Utterance", key: "id", text: true},
    {name: rate + " %", key: "rate"},
    {name: "Errors", key: "errors"},
    {name: "Length", key: "length"},
    ...(has("seconds") ? [{name: "Seconds", key: "seconds", digits: 1}] : []),
    ...(has("confidence") ? [{name: "Confidence", key: "confidence", digits: 2}] : []),
    ...(has("speaker") ? [{name: "Speaker", key: "speaker", text: true}] : []),
  ];
  const body = document.querySelector("#utterances tbody");
  const search = document.getElementById("search");
  const only = document.getElementById("only");
  only.checked = rows.some(row => row.errors);
  const state = {key: "errors", descending: true, shown: PAGE};

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const alignment = row => {
    const cell = element("td", "text words");
    const gap = row.characters ? "" : " ";
    row.pieces.forEach((piece, position) => {
      if (position) cell.append(gap);
      if (piece.length === 1) {
        cell.append(piece[0]);
      } else if (piece[0] && piece[1]) {
        const pair = element("span", "s");
        pair.append(element("del", "", piece[0]), element("ins", "", piece[1]));
        cell.append(pair);
      } else {
        cell.append(element("span", piece[0] ? "d" : "i", piece[0] || piece[1]));
      }
    });
    if (row.missing) cell.append(" ", element("span", "missing", "no hypothesis"));
    return cell;
  };

  const player = (row, cell) => {
    const button = element("button", "play", "▶");
    button.type = "button";
    button.setAttribute("aria-label", "Play " + row.id);
    button.addEventListener("click", () => {
      const open = document.querySelector("audio");
      if (open) {
        const other = open.closest("tr").querySelector(".play");
        other.classList.remove("on");
        open.remove();
        if (other === button) return;
      }
      const audio = element("audio");
      audio.controls = true;
      audio.src = row.audio;
      cell.append(audio);
      button.classList.add("on");
      audio.play().catch(() => {});
    });
    return button;
  };

  const highest = Math.max(1, ...rows.map(row => Math.min(row.rate, 100)));
  const render = row => {
    const line = element("tr");
    for (const {key, digits, text} of columns) {
      const cell = element("td", (text ? "text " : "") + key);
      if (key === "rate") {
        cell.append(row.rate === Infinity ? "∞" : number(row.rate, 1));
        const bar = element("i");
        bar.style.width = 44 * Math.min(row.rate, highest) / highest + "px";
        cell.append(bar);
      } else {
        cell.append(text ? row[key] || "" : number(row[key], digits || 0));
      }
      line.append(cell);
    }
    const words = alignment(row);
    const play = element("td");
    if (row.audio) play.append(player(row, words));
    line.append(words, play);
    return line;
  };

  const compare = (left, right) => {
    const [a, b] = [left[state.key], right[state.key]];
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "string" ? a.localeCompare(b, "en", {numeric: true}) : (a > b) - (a < b);
    return state.descending ? -order : order;
  };

  const draw = () => {
    const wanted = search.value.trim().toLowerCase();
    const found = rows.filter(row => (!only.checked || row.errors) && row.found.includes(wanted)).sort(compare);
    body.replaceChildren(...found.slice(0, state.shown).map(render));
    const shown = Math.min(state.shown, found.length);
    document.getElementById("shown").textContent = shown + " of " + found.length.toLocaleString("en");
    document.getElementById("more").hidden = shown === found.length;
    document.querySelectorAll("#utterances th[data-key]").forEach(head => {
      if (head.dataset.key === state.key) {
        head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      } else {
        head.removeAttribute("aria-sort");
      }
    });
  };
  const restart = () => { state.shown = PAGE; draw(); };

  const head = document.querySelector("#utterances thead tr");
  for (const {name, key, text} of columns) {
    const cell = element("th", text ? "text" : "");
    cell.dataset.key = key;
    const button = element("button", "", name);
    button.type = "button";
    button.addEventListener("click", () => {
      state.descending = state.key === key ? !state.descending : !text;
      state.key = key;
      restart();
    });
    cell.append(button);
    head.append(cell);
  }
  head.append(element("th", "text"), element("th"));
  search.addEventListener("input", restart);
  only.addEventListener("change", restart);
  document.getElementById("more").addEventListener("click", () => { state.shown += PAGE; draw(); });
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  draw();
})();
