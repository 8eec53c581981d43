package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/rules"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

const exampleRules = "../../infra/rules/example.yaml"

func TestEndToEndRulesRejectAndReplaceAndAreTakenWhenTheyChange(t *testing.T) {
	besideOthers(t)
	file := filepath.Join(t.TempDir(), "rules.yaml")
	write := func(rules string) { require.NoError(t, os.WriteFile(file, []byte(rules), 0o600)) }
	write(`rules: [{name: mask, when: content contains "rude", replace: {match: rude, with: '****'}}]`)
	d := startDevAs(t, t.TempDir(), []string{"--rules=" + file})
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	to := client.ToUser(proof.Bob)

	require.True(t, a.Sends(t, to, "how rude").Replaced)
	require.Equal(t, []string{"how ****"}, b.Reads(t, 1))
	write(`rules: [{name: spam, when: content contains "spam", reject: no spam here}]`)
	proof.Await(t, func() bool {
		_, err := a.Send(t.Context(), client.Send{Target: to, Content: "spam"})
		return err != nil
	}, "the changed rules are not taken")
	_, err := a.Send(t.Context(), client.Send{Target: to, Content: "spam"})
	require.ErrorIs(t, err, &client.Error{Code: client.Rejected})
	require.ErrorContains(t, err, "no spam here")
	require.False(t, a.Sends(t, to, "how rude").Replaced, "the former rule is gone")
}

func TestRulesCommandChecksAndTries(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	require.NoError(t, os.WriteFile(wrong, []byte("rules:\n  - name: a\n    when: form == 1\n    tag: b\n"), 0o600))
	webhooks := filepath.Join(t.TempDir(), "webhooks.yaml")
	endpoint := "endpoints: [{name: crm, url: 'https://crm.example.com', secrets: [" + webhookSecret + "], notify: [%s]}]"
	require.NoError(t, os.WriteFile(webhooks, fmt.Appendf(nil, endpoint, "lawyers"), 0o600))
	others := filepath.Join(t.TempDir(), "others.yaml")
	require.NoError(t, os.WriteFile(others, fmt.Appendf(nil, endpoint, "sales"), 0o600))
	for name, c := range map[string]struct {
		args []string
		want []string // what is printed, or the error
		exit int
	}{
		"valid":              {[]string{"check", exampleRules}, []string{"9 rules, all valid"}, 0},
		"wrong":              {[]string{"check", wrong}, []string{"line 3: when: unknown name form"}, 1},
		"somebody to notify": {[]string{"check", exampleRules, "--webhooks=" + webhooks}, []string{"all valid"}, 0},
		"nobody to notify":   {[]string{"check", exampleRules, "--webhooks=" + others}, []string{"notify lawyers: no endpoint in"}, 1},
		"no webhooks":        {[]string{"check", exampleRules, "--webhooks=none.yaml"}, []string{"no such file"}, 1},
		"no such file":       {[]string{"check", "none.yaml"}, []string{"no such file"}, 1},
		"passes": {
			[]string{"test", exampleRules, `--message={"from":1,"to":2,"content":"hello","time":"2026-01-05T12:00:00Z"}`},
			[]string{"accepted\n"},
			0,
		},
		"rejects": {
			[]string{"test", exampleRules, `--message={"from":1,"to":2,"content":"see http://x","user_type":"guest"}`},
			[]string{"matched   no-links-from-guests\n", "rejected  guests cannot send links\n"},
			0,
		},
		"replaces and tags": {
			[]string{"test", exampleRules, `--message={"from":1,"group_id":2,"content":"1234123412341234","time":"2026-01-05T03:00:00Z"}`},
			[]string{"matched   card-numbers, night\n", "tagged    night\n", "replaced  1234 **** **** 1234\n", "accepted\n"},
			0,
		},
		"routes and notifies": {
			[]string{"test", exampleRules, `--message={"from":1,"to":2,"content":"hello","user_type":"vip","region":"eu-1","time":"2026-01-05T12:00:00Z"}`},
			[]string{"matched   customers\n", "routed    vip\n", "accepted\n"},
			0,
		},
		"recalls": {
			[]string{"test", exampleRules, `--message={"from":1,"to":2,"content":"Casino!","time":"2026-01-05T12:00:00Z"}`},
			[]string{"matched   advertising\n", "recalled  no advertising\n", "accepted\n"},
			0,
		},
		"recalls a flood": {
			[]string{"test", exampleRules, `--message={"from":1,"to":2,"content":"hello","time":"2026-01-05T12:00:00Z"}`, "--times=3"},
			[]string{"matched   echo\n", "recalled  you have said that\n", "accepted\n"},
			0,
		},
		"edit is no flood": {
			[]string{"test", exampleRules, `--message={"from":1,"to":2,"content":"hello","edit":true,"time":"2026-01-05T12:00:00Z"}`, "--times=30"},
			[]string{"accepted\n"},
			0,
		},
		"too often": {
			[]string{"test", exampleRules, `--message={"from":1,"to":2,"content":"hello"}`, "--times=121"},
			[]string{"rejected  too many messages"},
			0,
		},
		"no message":           {[]string{"test", exampleRules}, []string{`required flag(s) "message" not set`}, 2},
		"unknown member":       {[]string{"test", exampleRules, `--message={"form":1}`}, []string{"--message", "form"}, 2},
		"extra that is a list": {[]string{"test", exampleRules, `--message={"extra":[]}`}, []string{"--message: invalid event: extra"}, 2},
		"no times":             {[]string{"test", exampleRules, "--message={}", "--times=0"}, []string{"--times=0"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			root := newRootCommand()
			root.SetOut(&out)
			root.SetArgs(append([]string{"rules"}, c.args...))
			err := root.Execute()
			require.Equal(t, c.exit, exitCode(err), "%v", err)
			said := out.String()
			if err != nil {
				said = err.Error()
			}
			for _, want := range c.want {
				require.Contains(t, said, want)
			}
		})
	}
}

// The examples in the page on rules are rules that hold.
func TestRulesInThePageAreValid(t *testing.T) {
	page, err := os.ReadFile("../../infra/rules/README.md")
	require.NoError(t, err)
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	require.Greater(t, len(examples), 1)
	for _, example := range examples {
		_, err := rules.Parse(example[1])
		require.NoError(t, err, "%s", example[1])
	}
}

func TestEndToEndRuleNotifiesByWebhook(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	lawyers := newHooked(t)
	rules, webhooks := filepath.Join(dir, "rules.yaml"), filepath.Join(dir, "webhooks.yaml")
	require.NoError(t, os.WriteFile(rules, []byte(`rules: [{name: threats, when: content contains "sue", notify: lawyers}]`), 0o600))
	require.NoError(t, os.WriteFile(webhooks, fmt.Appendf(nil,
		"endpoints: [{name: legal, url: '%s', secrets: [%s], notify: [lawyers], allow_private: true}]", lawyers.URL, webhookSecret), 0o600))
	d := startDevAs(t, t.TempDir(), []string{"--rules=" + rules, "--webhooks=" + webhooks, "--handlers=storage,push,webhook"})
	a := proof.Join(t, d.url(), proof.Alice, nil)
	for _, text := range []string{"hello", "I will sue", "bye", "sue!"} {
		a.Sends(t, client.ToUser(proof.Bob), text)
	}
	require.Equal(t, []string{"I will sue", "sue!"}, lawyers.contents(t, 2))
}
