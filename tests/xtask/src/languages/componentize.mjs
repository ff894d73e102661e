// Makes a component of one JavaScript file. Arguments: source, folder of the WIT, where to write, features of the runtime to leave out.
import { readFile, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [source, witPath, output, leaveOut] = process.argv.slice(2);
const { component } = await componentize(await readFile(source, 'utf8'), {
  sourceName: 'app.js',
  witPath,
  worldName: 'example:plugin/plugin',
  disableFeatures: leaveOut.split(','),
});
await writeFile(output, component);
