"use strict";
const byId = (id) => document.getElementById(id);
const RATE = 24000;
let stop = null;

function say(message, isError = false) {
  byId("status").textContent = message;
  byId("status").className = isError ? "error" : "";
}

function line(id) {
  const found = byId(id);
  if (found) return found;
  const added = document.createElement("p");
  added.id = id;
  byId("text").append(added);
  return added;
}

function base64(buffer) {
  let text = "";
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}

function protocols() {
  const key = byId("key").value;
  return key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"];
}

function show(event) {
  const kind = event.type.split(".").pop();
  if (event.type === "error") {
    say(event.error.message, true);
  } else if (kind === "delta") {
    const added = document.createElement("span");
    added.className = "tentative";
    added.textContent = event.delta;
    line(event.item_id).append(added);
  } else if (kind === "completed") {
    line(event.item_id).textContent = event.transcript;
    if (!event.transcript) line(event.item_id).remove();
  }
}

async function record() {
  byId("text").replaceChildren();
  const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext({ sampleRate: RATE });
  await context.audioWorklet.addModule("worklet.js");
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1 });
  const address = new URL("v1/realtime?intent=transcription", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address, protocols());
  const send = (event) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(event));
  socket.onopen = () => {
    const language = byId("language").value.trim();
    const transcription = language ? { model: "fun-asr", language } : { model: "fun-asr" };
    const input = { format: { type: "audio/pcm", rate: RATE }, transcription, turn_detection: { type: "server_vad" } };
    send({ type: "session.update", session: { type: "transcription", audio: { input } } });
    recorder.port.onmessage = (message) =>
      send({ type: "input_audio_buffer.append", audio: base64(message.data) });
    context.createMediaStreamSource(media).connect(recorder);
    say("Listening.");
  };
  socket.onmessage = (message) => {
    const event = JSON.parse(message.data);
    show(event);
    // After the last piece there is one commit, and after its answer nothing more.
    if (stop === null && event.type.endsWith(".completed")) socket.close();
  };
  const end = () => {
    media.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") context.close();
    byId("record").textContent = "Record";
    stop = null;
  };
  socket.onclose = (event) => {
    if (stop) end();
    say(event.code === 1006 ? "The server refused the connection; is the key right?" : event.reason, event.code !== 1000);
  };
  stop = () => {
    end();
    send({ type: "input_audio_buffer.commit" });
    setTimeout(() => socket.close(), 10000);
    say("");
  };
  byId("record").textContent = "Stop";
}

async function transcribe(file) {
  byId("text").replaceChildren();
  say("Sending.");
  const form = new FormData();
  form.append("file", file, "recording");
  form.append("model", "fun-asr");
  form.append("stream", "true");
  const language = byId("language").value.trim();
  if (language) form.append("language", language);
  const key = byId("key").value;
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const answer = await fetch("v1/audio/transcriptions", { method: "POST", body: form, headers });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const events = (waiting + part.value).split("\n\n");
    waiting = events.pop();
    for (const text of events) {
      const event = JSON.parse(text.slice("data: ".length));
      if (event.error) throw new Error(event.error.message);
      if (event.type === "transcript.text.delta") line("recording").append(event.delta);
      if (event.type === "transcript.text.done") line("recording").textContent = event.text;
    }
  }
  say("Done.");
}

byId("record").onclick = () => (stop ? stop() : record().catch((error) => say(String(error.message), true)));
byId("file").onchange = (event) => {
  const file = event.target.files[0];
  event.target.value = "";
  if (file) transcribe(file).catch((error) => say(String(error.message), true));
};
