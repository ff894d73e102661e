// Does what its settings say, however bad: {"do": "loop"}.
//
// What it finds out (a number, a time, the words of an error) it answers as a reason, so that a host test can see it.

import { write } from 'penstock:plugin/log@0.1.0';
import { settings as read } from 'penstock:plugin/config@0.1.0';
import { payload } from 'penstock:plugin/delivery@0.1.0';

const tried = (what) => {
  try {
    return `got ${what()}`;
  } catch (error) {
    return `${error.name ?? 'error'}: ${error.message ?? JSON.stringify(error.payload ?? error)}`;
  }
};

const ways = {
  loop() {
    for (;;);
  },
  memory() {
    const held = [];
    for (;;) held.push(new Uint8Array(1 << 20).fill(1));
  },
  recursion() {
    const deeper = (depth) => deeper(depth + 1) + 1;
    return String(deeper(0));
  },
  'host-calls'() {
    for (;;) read();
  },
  'log-flood'() {
    for (let n = 0; n < 90; n += 1) write('info', 'flood '.repeat(1000), [['number', String(n)]]);
    return 'logged';
  },
  'print-flood'() {
    for (let n = 0; n < 2000; n += 1) console.log('flood', n);
    return 'printed';
  },
  'big-answer': () => 'x'.repeat(8 << 20),
  throw() {
    throw new Error('told to throw');
  },
  // Words of the contract that are none: the binding or the host has to refuse them.
  'bad-enum'() {
    write('shout', 'told to', []);
    return 'written';
  },
  clock() {
    const begun = performance.now();
    let sum = 0;
    for (let n = 0; n < 200000; n += 1) sum += n;
    return `${performance.now() - begun} ${Date.now()} ${sum}`;
  },
  chance: () => `${Math.random()} ${Math.random()} ${crypto.getRandomValues(new Uint8Array(8)).join()}`,
  floats() {
    const bits = (number) => new BigUint64Array(new Float64Array([number]).buffer)[0].toString(16);
    let sum = 0;
    for (let n = 0; n < 2000; n += 1) sum += (Math.sin(n) * Math.exp(n % 7)) / (n + 0.1);
    return [sum, NaN, -NaN, Infinity - Infinity, -0, 0 / 0, Math.sqrt(-1)].map(bits).join(' ');
  },
  network: () => tried(() => fetch('http://127.0.0.1/')),
  payload: () => tried(() => `${payload().length} characters`),
};

/** One key, `do`. */
export const settings = {
  schema: () => JSON.stringify({ type: 'object', required: ['do'] }),
  validate(text) {
    if (Object.hasOwn(ways, JSON.parse(text).do)) return [];
    return [{ path: 'do', message: `one of ${Object.keys(ways).join(', ')}` }];
  },
};

/** Behaves. */
export const trigger = {
  decide: () => ({ effects: [], reasons: [String(ways[JSON.parse(read()).do]())], warnings: [] }),
};
