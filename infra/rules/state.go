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
	When   string // as the file has it; of a flood what is too much, and then its condition, if any
	Action string // reject, replace, tag, route, recall or notify
	// Matched is how often the rule has matched in this process, and Failed how often its condition could not be evaluated.
	Matched, Failed int64
}

// State returns the present rules in the order of the file.
func (f *File) State() State {
	state := *f.state.Load()
	add := func(name, when, action string) {
		state.Rules = append(state.Rules, RuleState{
			Name: name, When: when, Action: action,
			Matched: valueOf(f.matched.WithLabelValues(name)), Failed: valueOf(f.failed.WithLabelValues(name)),
		})
	}
	set := f.current.Load()
	for _, r := range set.rules {
		add(r.name, r.source, r.action())
	}
	for _, f := range set.floods {
		add(f.name, f.source, "recall")
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
	case r.recall != "":
		return "recall"
	case r.notify != "":
		return "notify"
	}
	return "replace"
}

func valueOf(c prometheus.Counter) int64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil { // which only a counter with invalid labels returns
		return 0
	}
	return int64(m.GetCounter().GetValue())
}
