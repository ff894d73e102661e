// Package export_penstock_plugin_settings says what an operator may set: nothing.
package export_penstock_plugin_settings

import (
	"encoding/json"
	"maps"
	"slices"

	types "wit_component/penstock_plugin_types"
)

// Schema is the JSON Schema of the settings.
func Schema() string {
	return `{"type": "object", "additionalProperties": false}`
}

// Validate answers every problem at once.
func Validate(settings string) []types.Problem {
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte(settings), &given); err != nil {
		return []types.Problem{{Message: err.Error()}}
	}
	var problems []types.Problem
	for _, name := range slices.Sorted(maps.Keys(given)) {
		problems = append(problems, types.Problem{Path: name, Message: "there is no such setting"})
	}
	return problems
}
