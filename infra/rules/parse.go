package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"millrace/events"
)

const (
	maxFile  = 1 << 20
	maxRules = 1000
	// maxReason bounds the reason of a rejection, which the sender is given.
	maxReason = 256
	// maxNames bounds the routes, and those to notify, that a file names. All of them fit into a header that outlives the
	// poison queue.
	maxNames = 10
)

// name is what a rule, a tag and who is to be notified may be called.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// document is the file as it is written.
type document struct {
	Rules  []written      `yaml:"rules"`
	Floods []writtenFlood `yaml:"floods"`
}

// written is a rule as it is written.
type written struct {
	Name    text          `yaml:"name"`
	When    text          `yaml:"when"`
	Reject  *text         `yaml:"reject"`
	Replace *substitution `yaml:"replace"`
	Tag     *text         `yaml:"tag"`
	Route   *text         `yaml:"route"`
	Recall  *text         `yaml:"recall"`
	Notify  *text         `yaml:"notify"`
}

type substitution struct {
	Match text  `yaml:"match"`
	With  *text `yaml:"with"`
}

// text is a text that knows its line.
type text struct {
	value string
	line  int
}

// UnmarshalYAML takes nothing but text: a number or yes would be another text than is written.
func (t *text) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!str" {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: want text, in quotes if need be", node.Line)}}
	}
	t.value, t.line = node.Value, node.Line
	return nil
}

// Parse reads a file of rules. Its error has a line for each fault, which begins with "line N: " where that is known.
func Parse(data []byte) (*Set, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%d bytes, more than %d", len(data), maxFile)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var d document
	if err := decoder.Decode(&d); err != nil {
		return nil, faultsIn(err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	if len(d.Rules) > maxRules {
		return nil, fmt.Errorf("%d rules, more than %d", len(d.Rules), maxRules)
	}
	if len(d.Floods) > maxFloods {
		return nil, fmt.Errorf("%d floods, more than %d", len(d.Floods), maxFloods)
	}
	set := &Set{}
	var all []error
	var names []string
	var windows []string
	found := func(kind string, i int, called *text, faults []error) {
		if slices.Contains(names, called.value) {
			faults = append(faults, called.fault("another rule is called %s", called.value))
		}
		for _, fault := range faults {
			if called.value == "" {
				fault = fmt.Errorf("%s %d: %w", kind, i+1, fault)
			}
			all = append(all, fault)
		}
		names = append(names, called.value)
	}
	for i, w := range d.Rules {
		r, asks, faults := w.compile()
		found("rule", i, &w.Name, faults)
		set.rules, windows = append(set.rules, r), append(windows, asks...)
	}
	for i, w := range d.Floods {
		f, faults := w.compile()
		found("flood", i, &w.Name, faults)
		set.floods = append(set.floods, f)
	}
	var err error
	if set.rates, err = newRates(windows); err != nil {
		all = append(all, err)
	}
	if n := len(set.Routes()); n > maxNames {
		all = append(all, fmt.Errorf("%d different routes, more than %d", n, maxNames))
	}
	if n := len(set.Notified()); n > maxNames {
		all = append(all, fmt.Errorf("%d different names to notify, more than %d", n, maxNames))
	}
	if len(all) > 0 {
		return nil, errors.Join(all...)
	}
	return set, nil
}

// faultsIn returns what the decoder found, a line for each.
func faultsIn(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("empty: a file without rules says `rules: []`")
	}
	var several *yaml.TypeError
	if !errors.As(err, &several) {
		return err
	}
	var all []error
	for _, fault := range several.Errors {
		fault = unknownKey.ReplaceAllString(fault, "unknown key $1")
		fault = noList.ReplaceAllString(fault, "want a list")
		all = append(all, errors.New(noMapping.ReplaceAllString(fault, "want a mapping")))
	}
	return errors.Join(all...)
}

// These find what the decoder says of Go's types, which whoever writes a file does not know.
var (
	unknownKey = regexp.MustCompile(`field (.*) not found in type \S+$`)
	noList     = regexp.MustCompile(`cannot unmarshal .* into \[\]\S+$`)
	noMapping  = regexp.MustCompile(`cannot unmarshal .* into \S+$`)
)

func (t *text) fault(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if t.line == 0 {
		return err
	}
	return fmt.Errorf("line %d: %w", t.line, err)
}

// compile returns the rule, the windows of the rates that it asks for, and what is wrong with it.
func (w *written) compile() (r *rule, windows []string, faults []error) {
	r = &rule{name: w.Name.value, source: w.When.value}
	fault := func(t *text, format string, args ...any) { faults = append(faults, t.fault(format, args...)) }
	if !name.MatchString(r.name) {
		fault(&w.Name, "name %.80q: want 1 to 64 of a-z, 0-9, - and _", r.name)
	}
	var err error
	if w.When.value == "" {
		fault(&w.Name, "rule %s has no when", r.name)
	} else if r.when, windows, err = compile(w.When.value); err != nil {
		fault(&w.When, "when: %w", err)
	}
	actions := 0
	act := func(t *text, check func(value string) error) string {
		if t == nil {
			return ""
		}
		actions++
		if err := check(t.value); err != nil {
			fault(t, "%w", err)
		}
		return t.value
	}
	r.reject = act(w.Reject, checkReason("reject"))
	r.recall = act(w.Recall, checkReason("recall"))
	r.tag = act(w.Tag, checkName("tag"))
	r.notify = act(w.Notify, checkName("notify"))
	r.route = act(w.Route, events.CheckRoute)
	if w.Replace != nil {
		actions++
		if r.replace, err = w.Replace.compile(); err != nil {
			faults = append(faults, err)
		}
	}
	if actions != 1 {
		fault(&w.Name, "rule %s has %d actions: want one of reject, replace, tag, route, recall and notify", r.name, actions)
	}
	return r, windows, faults
}

func checkReason(action string) func(string) error {
	return func(reason string) error {
		if reason == "" || len(reason) > maxReason {
			return fmt.Errorf("%s wants a reason of at most %d bytes", action, maxReason)
		}
		return nil
	}
}

func checkName(action string) func(string) error {
	return func(value string) error {
		if !name.MatchString(value) {
			return fmt.Errorf("%s %.80q: want 1 to 64 of a-z, 0-9, - and _", action, value)
		}
		return nil
	}
}

func (s *substitution) compile() (*replacement, error) {
	if s.With == nil {
		return nil, s.Match.fault("replace wants with, the text that takes its place")
	}
	r := &replacement{with: s.With.value}
	if s.Match.value == "" {
		if events.ValidateContent(r.with) != nil {
			return nil, s.With.fault("with wants 1 to %d bytes, since it is all of the content", events.MaxContentBytes)
		}
		return r, nil
	}
	var err error
	if r.match, err = regexp.Compile(s.Match.value); err != nil {
		return nil, s.Match.fault("match: %w", err)
	}
	return r, nil
}
