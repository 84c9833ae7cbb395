// Sound samples as a 16-bit mono WAV file: every server reads it, no browser records it.

export function toWav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // whole numbers
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => {
    const bounded = Math.max(-1, Math.min(1, sample));
    view.setInt16(44 + 2 * i, Math.round(bounded * 32767), true);
  });
  return new Blob([view], { type: "audio/wav" });
}

const READ_BY_SERVER = /\.(wav|flac|ogg|oga|mp3)$/i;

// A file of a kind that the server may not read (webm, m4a) is decoded by the browser and goes as WAV.
export async function readable(file) {
  if (READ_BY_SERVER.test(file.name) || !/^(audio|video)\//.test(file.type)) return file;
  const context = new AudioContext();
  try {
    const sound = await context.decodeAudioData(await file.arrayBuffer());
    const mixed = new Float32Array(sound.length);
    for (let c = 0; c < sound.numberOfChannels; c += 1) {
      sound.getChannelData(c).forEach((sample, i) => { mixed[i] += sample / sound.numberOfChannels; });
    }
    return new File([toWav(mixed, sound.sampleRate)], `${file.name}.wav`, { type: "audio/wav" });
  } catch {
    return file; // the server says what it expected
  } finally {
    context.close();
  }
}
