// Package export_penstock_plugin_settings takes whatever it is given.
package export_penstock_plugin_settings

import types "wit_component/penstock_plugin_types"

// Schema is the JSON Schema of the settings.
func Schema() string {
	return `{"type": "object"}`
}

// Validate finds nothing wrong.
func Validate(settings string) []types.Problem {
	return nil
}
