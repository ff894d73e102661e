// One comment on each merge request that is opened.
//
// It needs the grant `effects: [comment]` and imports `log`, which is always there.

import { write } from 'penstock:plugin/log@0.1.0';

const WELCOME = 'Thank you! Runs of this merge request are shown below its title.';

/** What an operator may set: nothing. */
export const settings = {
  schema() {
    return JSON.stringify({ type: 'object', additionalProperties: false });
  },
  validate(text) {
    return Object.keys(JSON.parse(text)).map((path) => ({ path, message: 'there is no such setting' }));
  },
};

/** Decides what an event means. */
export const trigger = {
  decide({ kind }) {
    if (kind.tag !== 'merge-request' || kind.val.action !== 'open') {
      return { effects: [], reasons: ['only a merge request that is opened is greeted'], warnings: [] };
    }
    const { iid } = kind.val.mergeRequest;
    write('info', 'greets', [['merge-request', String(iid)]]);
    const comment = { target: { tag: 'merge-request', val: iid }, body: WELCOME };
    return {
      effects: [{ key: 'welcome', action: { tag: 'comment', val: comment } }],
      reasons: ['a merge request was opened'],
      warnings: [],
    };
  },
};
