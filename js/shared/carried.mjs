// The graph inside a WAV or M4A of Save Audio: a part behind the sound, named in its header.

const CHUNK = "SA3g"; // in a WAV
const BOX = "0b4c1718b51e5b77b8a2ac62439aab00"; // in an M4A, after "uuid"
const MOST = 2 ** 26; // bytes of the part

const text = (bytes) => new TextDecoder().decode(bytes);
const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

async function bytesOf(file, start, length) {
  return new Uint8Array(await file.slice(start, start + length).arrayBuffer());
}

/** Start and length of the part's JSON in a WAV. */
async function inWav(file) {
  for (let place = 12; place + 8 <= file.size; ) {
    const head = await bytesOf(file, place, 8);
    const length = new DataView(head.buffer).getUint32(4, true);
    if (text(head.slice(0, 4)) === CHUNK) return [place + 8, length];
    place += 8 + length + (length % 2);
  }
  return null;
}

/** Start and length of the part's JSON in an M4A. */
async function inM4a(file) {
  for (let place = 0; place + 8 <= file.size; ) {
    const head = await bytesOf(file, place, 24);
    const view = new DataView(head.buffer);
    let length = view.getUint32(0);
    if (length === 1 && head.length >= 16) length = Number(view.getBigUint64(8));
    if (length < 8) return null; // 0: up to the end
    const ours = text(head.slice(4, 8)) === "uuid" && hex(head.slice(8)) === BOX;
    if (ours) return [place + 24, length - 24];
    place += length;
  }
  return null;
}

function parsed(value) {
  try {
    const found = JSON.parse(value);
    return found && typeof found === "object" && !Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}

/**
 * What a file carries.
 * @param {Blob} file any file
 * @returns {Promise<{workflow: object | null, prompt: object | null} | null>} null: no graph of ours
 */
export async function carriedGraph(file) {
  const head = await bytesOf(file, 0, 12);
  let place = null;
  if (text(head.slice(0, 4)) === "RIFF" && text(head.slice(8)) === "WAVE") place = await inWav(file);
  else if (text(head.slice(4, 8)) === "ftyp") place = await inM4a(file);
  if (!place || place[1] > MOST) return null;
  const tags = parsed(text(await bytesOf(file, place[0], place[1])));
  const workflow = parsed(tags?.workflow);
  const prompt = parsed(tags?.prompt);
  return workflow || prompt ? { workflow, prompt } : null;
}
