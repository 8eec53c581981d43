// Package rules decides by a file of rules what is to become of messages. A rule has a condition and one action. The rules are a
// hook of the message service, which asks them before it accepts a message or an edit. They reject and replace there; all else
// that they decide travels with the record in its headers, and handlers carry it out without evaluating the rules again.
//
// The file parse.go reads a file of rules, condition.go compiles the expressions, rates.go counts what users send, rules.go
// evaluates, floods.go compares messages with those before them in the log, and file.go keeps the rules of a process as the file
// has them.
package rules

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/expr-lang/expr/vm"

	"millrace/events"
	"millrace/infra/hook"
)

// Set is what a file of rules says. It does not change, but counts what users send if conditions ask for that.
type Set struct {
	rules  []*rule // in the order of the file
	floods []*flood
	rates  *rates // nil if no condition asks for a rate
}

// rule is a rule with its one action.
type rule struct {
	name   string
	when   *vm.Program
	source string // of when

	reject  string
	replace *replacement
	tag     string
	route   string
	recall  string // the reason
	notify  string
}

// replacement says what takes the place of the content.
type replacement struct {
	match *regexp.Regexp // the parts that are replaced; nil: all of it
	with  string
}

// Subject is what conditions are about.
type Subject struct {
	hook.Draft
	At time.Time
}

// Result is what the rules decide on a subject, with the names of those that matched and the errors of those whose condition
// could not be evaluated, which do not match.
type Result struct {
	hook.Verdict
	Matched []string
	Failed  map[string]error
}

// Names returns the names of all rules.
func (s *Set) Names() []string {
	var names []string
	for _, r := range s.rules {
		names = append(names, r.name)
	}
	for _, f := range s.floods {
		names = append(names, f.name)
	}
	return names
}

// Routes returns the routes that rules name, each once.
func (s *Set) Routes() []string { return s.named(func(r *rule) string { return r.route }) }

// Notified returns who is to be notified by the rules, each once.
func (s *Set) Notified() []string { return s.named(func(r *rule) string { return r.notify }) }

// named returns what the rules name, each once.
func (s *Set) named(by func(*rule) string) []string {
	var names []string
	for _, r := range s.rules {
		if n := by(r); n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// Evaluate evaluates the rules. Each sees what those before it have left. The first that rejects is the last.
func (s *Set) Evaluate(subject Subject) Result {
	var result Result
	env := s.environment(subject)
	machine := vm.VM{MemoryBudget: maxMemory}
	for _, r := range s.rules {
		if !result.holds(&machine, r.name, r.when, env) {
			continue
		}
		result.Matched = append(result.Matched, r.name)
		if r.act(&result, env); result.Reject != "" {
			break
		}
	}
	return result
}

// holds reports whether the condition of the rule holds. It notes an error.
func (r *Result) holds(machine *vm.VM, rule string, when *vm.Program, env *environment) bool {
	holds, err := machine.Run(when, env)
	if err != nil {
		if r.Failed == nil {
			r.Failed = map[string]error{}
		}
		r.Failed[rule] = err
	}
	return err == nil && holds == true
}

// act carries out the action.
func (r *rule) act(result *Result, env *environment) {
	switch {
	case r.reject != "":
		result.Reject = r.reject
	case r.tag != "":
		if !slices.Contains(env.Tags, r.tag) {
			env.Tags = append(slices.Clip(env.Tags), r.tag)
			result.Add(events.Decisions{Tags: []string{r.tag}})
		}
	case r.route != "":
		result.Add(events.Decisions{Routes: []string{r.route}})
	case r.notify != "":
		result.Add(events.Decisions{Notify: []string{r.notify}})
	case r.recall != "":
		result.Add(events.Decisions{Recall: r.recall})
	case r.replace != nil:
		content := r.replace.with
		if r.replace.match != nil {
			content = r.replace.match.ReplaceAllString(env.Content, r.replace.with)
		}
		if err := events.ValidateContent(content); err != nil {
			result.Reject = fmt.Sprintf("rule %s leaves no valid content", r.name)
			return
		}
		env.Content, result.Content = content, content
	}
}
