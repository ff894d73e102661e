// Package export_penstock_plugin_trigger does what its settings say: {"do": "map"}.
//
// Each way lets what Go's runtime draws by lot reach the answer, which is the plan's only reason.
package export_penstock_plugin_trigger

import (
	crypto "crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math/rand"
	"strings"
	"time"

	config "wit_component/penstock_plugin_config"
	effects "wit_component/penstock_plugin_effects"
	events "wit_component/penstock_plugin_events"
	types "wit_component/penstock_plugin_types"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

var ways = map[string]func() string{
	"map":    ordered,
	"select": selected,
	"chance": drawn,
	"clock":  timed,
}

// Decide answers a plan without effects.
func Decide(event events.Event) wit.Result[effects.Plan, types.PluginError] {
	var settings struct{ Do string }
	told := "did nothing"
	if err := json.Unmarshal([]byte(config.Settings()), &settings); err != nil {
		told = err.Error()
	} else if way, known := ways[settings.Do]; known {
		told = way()
	}
	return wit.Ok[effects.Plan, types.PluginError](effects.Plan{Reasons: []string{told}})
}

// ordered ranges over maps: the order in which Go does is another each time.
func ordered() string {
	var order []string
	for round := range 4 {
		numbers := map[string]int{}
		for n := range 50 {
			numbers[fmt.Sprintf("name-%d", n)] = n
		}
		for _, n := range numbers {
			order = append(order, fmt.Sprint(n))
		}
		if round < 3 {
			order = append(order, "|")
		}
	}
	return strings.Join(order, " ")
}

// selected takes from several channels that are all ready, filled by goroutines.
func selected() string {
	first, second, third := make(chan string, 30), make(chan string, 30), make(chan string, 30)
	done := make(chan struct{})
	for name, channel := range map[string]chan string{"a": first, "b": second, "c": third} {
		go func() {
			for range 30 {
				channel <- name
			}
			done <- struct{}{}
		}()
	}
	for range 3 {
		<-done
	}
	var order strings.Builder
	for range 90 {
		select {
		case name := <-first:
			order.WriteString(name)
		case name := <-second:
			order.WriteString(name)
		case name := <-third:
			order.WriteString(name)
		}
	}
	return order.String()
}

// drawn asks every source of random numbers there is, and what hashes depend on.
func drawn() string {
	secret := make([]byte, 8)
	if _, err := crypto.Read(secret); err != nil {
		return err.Error()
	}
	var hash maphash.Hash
	hash.WriteString("a text")
	return fmt.Sprintf("%d %s %x", rand.Uint64(), hex.EncodeToString(secret), hash.Sum64())
}

// timed tries to tell how long something took, and what day it is.
func timed() string {
	begun := time.Now()
	sum := 0
	for n := range 200_000 {
		sum += n
	}
	return fmt.Sprintf("%d %d %s", sum, time.Since(begun).Nanoseconds(), begun.UTC().Format(time.RFC3339Nano))
}
