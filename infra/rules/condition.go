package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

const (
	// maxNodes bounds the size of a condition, and maxMemory what evaluating it may allocate, in elements of lists.
	maxNodes  = 500
	maxMemory = 50_000
)

// environment is what a condition may name. README.md describes it.
type environment struct {
	From        int              `expr:"from"`
	To          int              `expr:"to"`
	GroupID     int              `expr:"group_id"`
	Content     string           `expr:"content"`
	MessageType int              `expr:"message_type"`
	Extra       map[string]any   `expr:"extra"`
	Mentions    []int64          `expr:"mentions"`
	ReplyTo     string           `expr:"reply_to"`
	UserType    string           `expr:"user_type"`
	Region      string           `expr:"region"`
	Tags        []string         `expr:"tags"`
	Edit        bool             `expr:"edit"`
	Time        time.Time        `expr:"time"`
	Rate        func(string) int `expr:"rate"`
}

// environmentOf returns the environment without rates, which only those who send messages have.
func environmentOf(subject Subject) *environment {
	m := subject.Message
	env := &environment{
		From: int(m.From), To: int(m.To), GroupID: int(m.GroupID), Content: m.Content, MessageType: int(m.MessageType),
		Mentions: m.Mentions, ReplyTo: m.ReplyTo, UserType: subject.UserType, Region: subject.Region, Tags: subject.Tags,
		Edit: subject.Edit, Time: subject.At.UTC(),
	}
	if len(m.Extra) > 0 && json.Unmarshal(m.Extra, &env.Extra) != nil {
		env.Extra = nil // every message was checked to have an object
	}
	return env
}

func (s *Set) environment(subject Subject) *environment {
	m, env := subject.Message, environmentOf(subject)
	if s.rates != nil {
		s.rates.count(m.From, subject.At)
		env.Rate = func(window string) int { return s.rates.of(m.From, window, subject.At) }
	}
	return env
}

// builtins are the functions that conditions may call. None of them loops over a predicate, so that evaluating a condition
// takes time in proportion to its size and that of the message.
func builtins() []string {
	return []string{
		"len", "lower", "upper", "trim", "trimPrefix", "trimSuffix", "split", "indexOf", "lastIndexOf", "hasPrefix", "hasSuffix",
		"int", "float", "string", "abs", "ceil", "floor", "round", "min", "max", "get", "keys", "first", "last",
		"date", "duration", "timezone",
	}
}

// compile checks and compiles a condition. It returns the windows of the rates that the condition asks for.
func compile(when string) (*vm.Program, []string, error) {
	check := &checker{}
	options := []expr.Option{
		expr.Env(&environment{}), expr.AsBool(), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins(), expr.Patch(check),
	}
	for _, name := range builtins() {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err := expr.Compile(when, options...)
	var located *file.Error
	if errors.As(err, &located) {
		err = fmt.Errorf("%s (at %d:%d)", located.Message, located.Line, located.Column+1)
	}
	return program, check.windows, errors.Join(check.err, err)
}

// checker finds what the types do not show.
type checker struct {
	windows []string
	err     error
}

// Visit implements [ast.Visitor].
func (c *checker) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		if _, constant := n.Right.(*ast.StringNode); n.Operator == "matches" && !constant {
			c.fail(errors.New("matches wants a regular expression that is written out, so that it is compiled once"))
		}
	case *ast.CallNode:
		callee, ok := n.Callee.(*ast.IdentifierNode)
		if !ok || callee.Value != "rate" || len(n.Arguments) != 1 {
			return // other mistakes the types show
		}
		window, ok := n.Arguments[0].(*ast.StringNode)
		if !ok {
			c.fail(errors.New(`rate wants a time that is written out, like rate("1m")`))
			return
		}
		if _, err := parseWindow(window.Value); err != nil {
			c.fail(err)
			return
		}
		c.windows = append(c.windows, window.Value)
	}
}

// fail keeps the first error: nodes are visited several times.
func (c *checker) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

var _ ast.Visitor = (*checker)(nil)
