// The microphone and the camera.
import { $, h } from "./dom.js";
import { toWav } from "./wav.js";

export class DeviceError extends Error {}

async function open(wanted, name) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new DeviceError(`A browser lends its ${name} only to pages from localhost or over https. Choose a file.`);
  }
  try {
    return await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    const reason = error.name === "NotAllowedError" ? "it was not allowed" : "none was found";
    throw new DeviceError(`The ${name} cannot be used: ${reason}. Choose a file.`);
  }
}

// As it is: what makes speech clear to people takes steady tones away.
const RAW = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

const stop = (stream) => stream.getTracks().forEach((track) => track.stop());

// Starts to record; the returned function ends it and gives the WAV file. `tick(seconds, level)` is called meanwhile.
export async function record(tick) {
  const stream = await open({ audio: RAW }, "microphone");
  const context = new AudioContext();
  await context.audioWorklet.addModule("page/recorder.worklet.js");
  const blocks = [];
  const node = new AudioWorkletNode(context, "recorder");
  node.port.onmessage = ({ data }) => {
    blocks.push(data);
    tick(blocks.length * data.length / context.sampleRate, Math.max(...data.map(Math.abs)));
  };
  context.createMediaStreamSource(stream).connect(node).connect(context.destination); // the node gives silence on
  return async () => {
    stop(stream);
    const rate = context.sampleRate;
    await context.close();
    const samples = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
    blocks.reduce((at, block) => { samples.set(block, at); return at + block.length; }, 0);
    if (!samples.length) throw new DeviceError("Nothing was recorded. Record for longer.");
    return new File([toWav(samples, rate)], "recording.wav", { type: "audio/wav" });
  };
}

// A dialog with the camera's picture; gives the file, or null if it is closed without one.
export async function photograph() {
  const stream = await open({ video: { facingMode: "environment" } }, "camera");
  const dialog = $("camera");
  const video = h("video", { autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
  video.muted = true;
  video.srcObject = stream;
  return new Promise((resolve) => {
    let picture = null;
    const take = () => {
      const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => {
        if (blob) picture = new File([blob], "camera.jpg", { type: "image/jpeg" });
        dialog.close();
      }, "image/jpeg", 0.92);
    };
    dialog.replaceChildren(
      h("h2", { id: "camera-title" }, "Take a picture"), video,
      h("div", { class: "actions" },
        h("button", { type: "button", class: "primary", onclick: take }, "Take it"),
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")),
    );
    dialog.addEventListener("close", () => { stop(stream); dialog.replaceChildren(); resolve(picture); }, { once: true });
    dialog.showModal();
  });
}
