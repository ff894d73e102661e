"""One comment on each merge request that is opened.

It needs the grant `effects: [comment]` and imports `log`, which is always there.
"""

import json

from wit_world import exports
from wit_world.imports import effects, events, log, types

WELCOME = "Thank you! Runs of this merge request are shown below its title."


class Settings(exports.Settings):
    """What an operator may set: nothing."""

    def schema(self) -> str:
        return json.dumps({"type": "object", "additionalProperties": False})

    def validate(self, settings: str) -> list[types.Problem]:
        return [
            types.Problem(name, None, None, "there is no such setting")
            for name in json.loads(settings)
        ]


class Trigger(exports.Trigger):
    """Decides what an event means."""

    def decide(self, event: events.Event) -> effects.Plan:
        change = event.kind.value
        opened = (
            isinstance(event.kind, events.EventKind_MergeRequest)
            and change.action == "open"
        )
        if not opened:
            return effects.Plan([], ["only a merge request that is opened is greeted"], [])
        iid = change.merge_request.iid
        log.write(log.Level.INFO, "greets", [("merge-request", str(iid))])
        comment = effects.Comment(effects.CommentTarget_MergeRequest(iid), WELCOME)
        welcome = effects.Effect("welcome", effects.Action_Comment(comment))
        return effects.Plan([welcome], ["a merge request was opened"], [])
