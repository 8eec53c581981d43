package rules

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// State is how it stands with the rules of this process.
type State struct {
	Path string
	// Loaded is when the present rules were taken from the file.
	Loaded time.Time
	// Fault says why what the file has now is not taken. It is empty if it is.
	Fault string
	Rules []RuleState
}

// RuleState is a rule, and of how many messages and edits it has decided something since the process began or the rule was new.
type RuleState struct {
	Name   string
	When   string // as the file has it
	Action string // reject, replace, tag, route or notify
	// Matched is how often the rule has matched, and Failed how often its condition could not be evaluated.
	Matched, Failed int64
}

// State returns the present rules in the order of the file.
func (f *File) State() State {
	state := *f.state.Load()
	for _, r := range f.current.Load().rules {
		state.Rules = append(state.Rules, RuleState{
			Name: r.name, When: r.source, Action: r.action(),
			Matched: counted(f.matched.WithLabelValues(r.name)), Failed: counted(f.failed.WithLabelValues(r.name)),
		})
	}
	return state
}

func (r *rule) action() string {
	switch {
	case r.reject != "":
		return "reject"
	case r.tag != "":
		return "tag"
	case r.route != "":
		return "route"
	case r.notify != "":
		return "notify"
	}
	return "replace"
}

func counted(c prometheus.Counter) int64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil { // which only a counter with invalid labels returns
		return 0
	}
	return int64(m.GetCounter().GetValue())
}
