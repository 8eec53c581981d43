package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"millrace/events"
	"millrace/handlers/webhook"
	"millrace/infra/hook"
	"millrace/infra/rules"
)

func newRulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rules", Short: "Check and try files of rules",
		Long: `Check and try files of rules, which decide what is to become of messages (MILLRACE_RULES). infra/rules/README.md says how they
are written.`,
		Args: cobra.ArbitraryArgs, RunE: wantsSubcommand,
	}
	cmd.AddCommand(newRulesCheckCommand(), newRulesTestCommand())
	return cmd
}

func newRulesCheckCommand() *cobra.Command {
	var webhooks string
	cmd := &cobra.Command{
		Use: "check FILE", Short: "Check a file of rules; tells line and reason of each fault and exits with 1",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := readRules(args[0])
			if err != nil {
				return err
			}
			if webhooks != "" {
				if err := checkNotified(set, webhooks); err != nil {
					return fmt.Errorf("%s:\n%w", args[0], err)
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d rules, all valid\n", args[0], len(set.Names()))
			return nil
		},
	}
	cmd.Flags().StringVar(&webhooks, "webhooks", "", "YAML file of the webhook handler's endpoints: whom a rule notifies must have one")
	return cmd
}

// checkNotified returns an error that says for whom of those whom rules notify the file has no endpoint.
func checkNotified(set *rules.Set, path string) error {
	endpoints, err := webhook.ReadFile(path)
	if err != nil {
		return err
	}
	var faults []error
	for _, name := range set.Notified() {
		if !slices.ContainsFunc(endpoints, func(e webhook.Endpoint) bool { return slices.Contains(e.Notify, name) }) {
			faults = append(faults, fmt.Errorf("notify %s: no endpoint in %s has it in notify", name, path))
		}
	}
	return errors.Join(faults...)
}

func newRulesTestCommand() *cobra.Command {
	var message string
	var times int
	cmd := &cobra.Command{
		Use: "test FILE --message=JSON", Short: "Say what a file of rules makes of a message",
		Long: `Say which rules of the file match the message, and what becomes of it. The message has the names that conditions use:
from, to or group_id, content, message_type (1), extra, mentions, reply_to, user_type, region, tags, edit, and time (now).`,
		Example: `  millrace rules test rules.yaml --message='{"from":1001,"to":1002,"content":"hello","user_type":"guest"}'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if times < 1 || times > 1_000_000 {
				return usageError{fmt.Errorf("--times=%d is not between 1 and 1000000", times)}
			}
			subject, err := subjectOf(message)
			if err != nil {
				return usageError{fmt.Errorf("--message: %w", err)}
			}
			set, err := readRules(args[0])
			if err != nil {
				return err
			}
			result := set.Evaluate(subject)
			for range times - 1 {
				result = set.Evaluate(subject)
			}
			if result.Reject == "" && !subject.Edit {
				addFloods(set, subject, times, &result)
			}
			showResult(cmd.OutOrStdout(), &result)
			return nil
		},
	}
	cmd.Flags().StringVar(&message, "message", "", "the message, as JSON")
	cmd.Flags().IntVar(&times, "times", 1, "how often it is sent at once, for rates and floods")
	_ = cmd.MarkFlagRequired("message") // it fails only for a flag that does not exist
	return cmd
}

func readRules(path string) (*rules.Set, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set, err := rules.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s:\n%w", path, err)
	}
	return set, nil
}

// triedMessage is a message as conditions see it.
type triedMessage struct {
	From        int64        `json:"from"`
	To          int64        `json:"to"`
	GroupID     int64        `json:"group_id"`
	Content     string       `json:"content"`
	MessageType int32        `json:"message_type"`
	Extra       events.Extra `json:"extra"`
	Mentions    []int64      `json:"mentions"`
	ReplyTo     string       `json:"reply_to"`
	UserType    string       `json:"user_type"`
	Region      string       `json:"region"`
	Tags        []string     `json:"tags"`
	Edit        bool         `json:"edit"`
	Time        time.Time    `json:"time"`
}

func subjectOf(message string) (rules.Subject, error) {
	var m triedMessage
	if err := jsonv2.Unmarshal([]byte(message), &m, jsonv2.RejectUnknownMembers(true)); err != nil {
		return rules.Subject{}, err
	}
	if err := m.Extra.Validate(); err != nil {
		return rules.Subject{}, err
	}
	if m.Time.IsZero() {
		m.Time = time.Now()
	}
	return rules.Subject{At: m.Time, Draft: hook.Draft{
		Message: &events.Message{
			From: m.From, To: m.To, GroupID: m.GroupID, Content: m.Content, MessageType: cmp.Or(m.MessageType, 1), Extra: m.Extra,
			Mentions: m.Mentions, ReplyTo: m.ReplyTo,
		},
		UserType: m.UserType, Region: m.Region, Tags: m.Tags, Edit: m.Edit,
	}}, nil
}

// addFloods adds what flood rules decide on what the rules have left.
func addFloods(set *rules.Set, subject rules.Subject, times int, result *rules.Result) {
	left := *subject.Message
	left.Content = cmp.Or(result.Content, left.Content)
	subject.Message = &left
	subject.Tags = append(slices.Clip(subject.Tags), result.Tags...)
	floods := set.EvaluateFloods(subject, times)
	result.Matched = append(result.Matched, floods.Matched...)
	result.Add(floods.Decisions)
	if result.Failed == nil {
		result.Failed = map[string]error{}
	}
	maps.Copy(result.Failed, floods.Failed)
}

// showResult prints what the rules make of a message.
func showResult(w io.Writer, r *rules.Result) {
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-9s %s\n", what, text)
		}
	}
	line("matched", strings.Join(r.Matched, ", "))
	for _, name := range slices.Sorted(maps.Keys(r.Failed)) {
		reason, _, _ := strings.Cut(r.Failed[name].Error(), "\n")
		line("failed", name+", which so does not match: "+reason)
	}
	if r.Reject != "" {
		line("rejected", r.Reject)
		return
	}
	line("tagged", strings.Join(r.Tags, ", "))
	line("routed", strings.Join(r.Routes, ", "))
	line("notified", strings.Join(r.Notify, ", "))
	line("replaced", r.Content)
	line("recalled", r.Recall)
	fmt.Fprintln(w, "accepted")
}
