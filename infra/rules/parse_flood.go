package rules

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxFloods      = 20
	maxMoreThan    = 1000
	maxFloodWithin = 24 * time.Hour
)

// The two ways to count messages.
const (
	perSender  = "sender"
	perContent = "content"
)

// writtenFlood is a flood rule as it is written.
type writtenFlood struct {
	Name     text   `yaml:"name"`
	When     text   `yaml:"when"`
	Per      text   `yaml:"per"`
	MoreThan number `yaml:"more_than"`
	Within   text   `yaml:"within"`
	Recall   text   `yaml:"recall"`
}

// number is a whole number that knows its line.
type number struct{ value, line int }

// UnmarshalYAML takes nothing but a whole number.
func (n *number) UnmarshalYAML(node *yaml.Node) error {
	value, err := strconv.Atoi(node.Value)
	if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!int" || err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: want a whole number", node.Line)}}
	}
	n.value, n.line = value, node.Line
	return nil
}

// compile returns the rule and what is wrong with it.
func (w *writtenFlood) compile() (f *flood, faults []error) {
	f = &flood{name: w.Name.value, moreThan: w.MoreThan.value, recall: w.Recall.value, byContent: w.Per.value == perContent}
	fault := func(line int, format string, args ...any) {
		at := text{line: cmp.Or(line, w.Name.line)}
		faults = append(faults, at.fault(format, args...))
	}
	if !name.MatchString(f.name) {
		fault(w.Name.line, "name %.80q: want 1 to 64 of a-z, 0-9, - and _", f.name)
	}
	if w.When.value != "" {
		when, windows, err := compile(w.When.value)
		if err == nil && len(windows) > 0 {
			err = errors.New("a flood has no rate: more_than and within say how much is too much")
		}
		if err != nil {
			fault(w.When.line, "when: %w", err)
		}
		f.when = when
	}
	if per := cmp.Or(w.Per.value, perSender); per != perSender && per != perContent {
		fault(w.Per.line, "per %.40q: want %s or %s", per, perSender, perContent)
	}
	if f.moreThan < 1 || f.moreThan > maxMoreThan {
		fault(w.MoreThan.line, "more_than %d: want 1 to %d", f.moreThan, maxMoreThan)
	}
	within, err := time.ParseDuration(w.Within.value)
	if err != nil || within < time.Second || within > maxFloodWithin || within%time.Second != 0 {
		fault(w.Within.line, "within %.40q: want whole seconds from 1s to 24h", w.Within.value)
	}
	f.within = int64(within / time.Second)
	f.source = fmt.Sprintf("more than %d within %s per %s", f.moreThan, w.Within.value, cmp.Or(w.Per.value, perSender))
	if w.When.value != "" {
		f.source += ", where " + w.When.value
	}
	if err := checkReason("recall")(f.recall); err != nil {
		fault(w.Recall.line, "%w", err)
	}
	return f, faults
}
