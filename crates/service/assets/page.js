"use strict";

const byId = (id) => document.getElementById(id);
const headers = () => {
  const token = byId("token").value.trim();
  return token ? { authorization: `Bearer ${token}` } : {};
};
const say = (text) => { byId("message").textContent = text; };

async function loadFormats() {
  const answer = await fetch("/v1/formats", { headers: headers() });
  const document_ = await answer.json();
  if (!answer.ok) return say(document_.error.message);
  byId("target").replaceChildren(...document_.formats.filter((format) => format.write).map((format) => {
    const option = document.createElement("option");
    option.value = format.name;
    option.textContent = `${format.title} (${format.name})`;
    return option;
  }));
}

function upload(event) {
  event.preventDefault();
  const file = byId("file").files[0];
  const target = byId("target").value;
  const stem = file.name.replace(/\.[^.]*$/, "") || "disk";
  const query = new URLSearchParams({ dst: target, name: `${stem}.${target}` });
  const request = new XMLHttpRequest();
  const progress = byId("progress");
  progress.hidden = false;
  request.upload.onprogress = (event) => { progress.value = event.loaded / event.total; };
  request.onerror = () => say("The connection broke off.");
  request.onload = () => {
    const answer = JSON.parse(request.responseText);
    say(answer.error ? answer.error.message
      : `${answer.output}: ${answer.capacityBytes} bytes, ${answer.digest.algorithm} ${answer.digest.hex}`);
  };
  request.open("POST", `/upload?${query}`);
  for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
  request.setRequestHeader("content-type", "application/octet-stream");
  request.send(file);
}

byId("upload").addEventListener("submit", upload);
byId("token").addEventListener("change", loadFormats);
loadFormats();
