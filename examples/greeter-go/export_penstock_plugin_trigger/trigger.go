// Package export_penstock_plugin_trigger decides what an event means: one comment on each merge request that is opened.
//
// It needs the grant `effects: [comment]` and imports `log`, which is always there.
package export_penstock_plugin_trigger

import (
	"strconv"

	effects "wit_component/penstock_plugin_effects"
	events "wit_component/penstock_plugin_events"
	log "wit_component/penstock_plugin_log"
	types "wit_component/penstock_plugin_types"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

const welcome = "Thank you! Runs of this merge request are shown below its title."

// Decide answers the plan for an event.
func Decide(event events.Event) wit.Result[effects.Plan, types.PluginError] {
	return wit.Ok[effects.Plan, types.PluginError](greet(event))
}

func greet(event events.Event) effects.Plan {
	if event.Kind.Tag() != events.EventKindMergeRequest || event.Kind.MergeRequest().Action != "open" {
		return effects.Plan{Reasons: []string{"only a merge request that is opened is greeted"}}
	}
	iid := event.Kind.MergeRequest().MergeRequest.Iid
	log.Write(log.LevelInfo, "greets", []wit.Tuple2[string, string]{{F0: "merge-request", F1: strconv.FormatUint(iid, 10)}})
	comment := effects.Comment{
		Target: effects.MakeCommentTargetMergeRequest(iid),
		Body:   wit.Some(welcome),
	}
	return effects.Plan{
		Effects: []effects.Effect{{Key: "welcome", Action: effects.MakeActionComment(comment)}},
		Reasons: []string{"a merge request was opened"},
	}
}
