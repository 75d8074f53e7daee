// Words that the models' training metadata uses, offered while a prompt is typed.

const GENRES = `Acid House, Acid Jazz, Acoustic, Afrobeat, Alternative Rock, Ambient, Baroque, Big Band, Bluegrass,
  Blues, Boogie, Bossa Nova, Breakbeat, Chillout, Chiptune, Choral, Cinematic, Classical, Country, Dance, Dark Ambient,
  Deep House, Disco, Downtempo, Drum and Bass, Dub, Dubstep, Electro, Electronic, Experimental, Film Score, Flamenco,
  Folk, Funk, Future Bass, Garage, Gospel, Hard Rock, Hardcore, Heavy Metal, Hip Hop, House, Indie Pop, Indie Rock,
  Industrial, Jazz, Jazz Fusion, Jungle, Latin, Lo-Fi Hip Hop, Lounge, Minimal Techno, Neoclassical, New Age, Noise,
  Orchestral, Pop, Post-Rock, Progressive House, Progressive Rock, Psychedelic Rock, Psytrance, Punk, R&B, Ragtime,
  Reggae, Reggaeton, Rock, Rockabilly, Salsa, Samba, Ska, Soul, Soundtrack, Swing, Synth Pop, Synthwave, Tango,
  Tech-House, Techno, Trance, Trap, Trip Hop, Tropical House, UK Garage, Vaporwave, Waltz, World`;
const INSTRUMENTS = `808 Bass, Accordion, Acoustic Guitar, Analog Synthesizer, Arpeggiator, Bagpipes, Banjo, Bass, Bass
  Guitar, Bassoon, Bells, Bongos, Brass, Cello, Choir, Church Organ, Clarinet, Claps, Clavinet, Congas, Cymbals, Double
  Bass, Drum Machine, Drums, Dulcimer, Electric Guitar, Electric Piano, English Horn, Felt Piano, Fiddle, Flute, French
  Horn, Glockenspiel, Grand Piano, Guitar, Handpan, Harmonica, Harp, Harpsichord, Hi-Hats, Kalimba, Keyboards, Kick
  Drum, Koto, Lute, Mandolin, Marimba, Mellotron, Music Box, Oboe, Orchestra, Organ, Pads, Pan Flute, Pedal Steel
  Guitar, Percussion, Piano, Piccolo, Plucks, Reese Bass, Rhodes, Saxophone, Shaker, Sitar, Slide Guitar, Snare Drum,
  Steel Drums, Strings, Sub Bass, Synth Bass, Synth Lead, Synthesizer, Tabla, Taiko, Tambourine, Theremin, Timpani,
  Trombone, Trumpet, Tuba, Tubular Bells, Turntable, Ukulele, Upright Bass, Vibraphone, Viola, Violin, Vocoder,
  Whistle, Woodwinds, Xylophone`;
const MOODS = `aggressive, airy, anthemic, atmospheric, bittersweet, bouncy, bright, brooding, calm, cheerful, climactic,
  cosmic, danceable, dark, dramatic, dreamy, driving, eerie, emotional, energetic, epic, ethereal, euphoric, feel-good,
  gentle, gritty, groovy, happy, haunting, heavy, heroic, hopeful, hypnotic, inspiring, intense, intimate, joyful, lush,
  majestic, meditative, melancholic, mellow, mysterious, nostalgic, ominous, peaceful, playful, powerful, punchy,
  quirky, relaxing, rolling, romantic, sad, serene, soaring, sombre, soothing, suspenseful, tender, tense, triumphant,
  uplifting, warm, whimsical, wistful`;
const SOUND = `analog tape saturation, cavernous reverb, close-mic'd, dead room, field recording, four-to-the-floor, in a
  large hall, live-recorded, lo-fi, long decay, plate reverb, short decay, sidechain pumping, single hit, slow attack,
  stereo, vintage studio, vinyl crackle, warm analogue gear, wide stereo image`;
const TAGS = `TrackType: Music, TrackType: Instrument, TrackType: SFX, VocalType: Instrumental, Genre: , Instruments: ,
  Format: Solo, Format: Duo, Format: Band, Format: Orchestra`;

function list(text) {
  return text.split(/,\s*/).map((entry) => entry.replace(/\s+/g, " ").replace(/^ /, ""));
}

const BY_TAG = {
  genre: list(GENRES),
  instruments: list(INSTRUMENTS),
  tracktype: ["Music", "Instrument", "SFX"],
  vocaltype: ["Instrumental"],
  format: ["Solo", "Duo", "Trio", "Quartet", "Band", "Orchestra"],
};
const ALL = [...list(TAGS), ...BY_TAG.genre, ...BY_TAG.instruments, ...list(MOODS), ...list(SOUND)];
const MOST = 8;

/**
 * What may be meant at the end of a text.
 *
 * @param {string} before the text up to the cursor.
 * @returns {{start: number, options: string[]}} where the typed part starts, and what to put there.
 */
export function suggest(before) {
  const typed = before.match(/[^,;.:\n]*$/)[0].trimStart();
  const start = before.length - typed.length;
  const sentence = before.slice(0, start).match(/[^.;\n]*$/)[0];
  const tag = sentence.match(/(\w+):[^:]*$/)?.[1].toLowerCase();
  const needle = typed.toLowerCase();
  const isAfterTag = /:\s*$/.test(sentence) && tag in BY_TAG;
  if (needle.length < (isAfterTag ? 0 : 2)) return { start, options: [] };
  // "Genre: House, Genre: ..." repeats its tag, "Instruments: Piano, Bass" does not.
  const own = tag === "instruments" || isAfterTag ? (BY_TAG[tag] ?? []) : [];
  const words = [...new Set([...own, ...(isAfterTag ? [] : ALL)])];
  const begins = words.filter((word) => word.toLowerCase().startsWith(needle));
  const inside = words.filter((word) => !begins.includes(word) && word.toLowerCase().includes(` ${needle}`));
  const options = [...begins, ...inside].filter((word) => word.toLowerCase() !== needle);
  return { start, options: options.slice(0, MOST) };
}
