package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
	"millrace/infra/hook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is a Monday.
func noon() time.Time { return time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC) }

func subject(change ...func(*Subject)) Subject {
	s := Subject{At: noon(), Draft: hook.Draft{UserType: "guest", Region: "eu", Tags: []string{"seen"}, Message: &events.Message{
		From: 1001, To: 1002, Content: "Hello http://spam.example", MessageType: 1, Extra: events.Extra(`{"app":{"n":3},"flag":true}`),
		Mentions: []int64{7}, ReplyTo: "m0",
	}}}
	for _, c := range change {
		c(&s)
	}
	return s
}

func parse(t testing.TB, file string) *Set {
	t.Helper()
	set, err := Parse([]byte(file))
	require.NoError(t, err)
	return set
}

func TestConditionNamesWhatAMessageHas(t *testing.T) {
	for when, want := range map[string]bool{
		`from == 1001`:                                  true,
		`from in [1, 1001]`:                             true,
		`from in 1..2000`:                               true,
		`to == 1002 && group_id == 0`:                   true,
		`content contains "spam"`:                       true,
		`content matches "https?://"`:                   true,
		`lower(content) startsWith "hello"`:             true,
		`len(content) > 100`:                            false,
		`message_type == 1`:                             true,
		`extra.app.n > 2`:                               true,
		`extra.flag`:                                    true,
		`extra.missing?.n == 3`:                         false,
		`(extra.age ?? 0) > 18`:                         false,
		`"app" in extra`:                                true,
		`7 in mentions && reply_to == "m0"`:             true,
		`user_type == "guest" && region in ["eu","us"]`: true,
		`"seen" in tags`:                                true,
		`edit`:                                          false,
		`time.Hour() < 9`:                               false,
		`time.In(timezone("Asia/Tokyo")).Hour() == 21`:  true,
		`time.Weekday().String() == "Monday"`:           true,
		`time > date("2026-01-01")`:                     true,
		`rate("1m") > 1`:                                false,
		`rate("1m") == 1`:                               true,
	} {
		set := parse(t, "rules: [{name: r, tag: hit, when: '"+when+"'}]")
		result := set.Evaluate(subject())
		require.Empty(t, result.Failed, when)
		require.Equal(t, want, len(result.Matched) == 1, when)
	}
}

func TestConditionThatCannotBeEvaluatedDoesNotMatch(t *testing.T) {
	set := parse(t, `
rules:
  - {name: broken, when: extra.missing > 3, reject: never}
  - {name: no-bool, when: extra.app, reject: never}
  - {name: whole, when: "true", tag: hit}
`)
	result := set.Evaluate(subject())
	require.Equal(t, []string{"whole"}, result.Matched)
	require.ErrorContains(t, result.Failed["broken"], "<nil> > int")
	require.Contains(t, result.Failed, "no-bool")
	require.Empty(t, result.Reject)
}

func TestRulesActInTheOrderOfTheFile(t *testing.T) {
	set := parse(t, `
rules:
  - name: link
    when: content contains "http"
    tag: link
  - name: mask
    when: '"link" in tags'
    replace: {match: 'http://(\S+)', with: '[$1]'}
  - name: masked
    when: content contains "[spam.example]"
    tag: masked
  - name: shout
    when: content == upper(content)
    reject: do not shout
  - name: late
    when: "true"
    tag: late
`)
	result := set.Evaluate(subject())
	require.Equal(t, Result{
		Verdict: hook.Verdict{
			Content: "Hello [spam.example]", Decisions: events.Decisions{Tags: []string{"link", "masked", "late"}},
		},
		Matched: []string{"link", "mask", "masked", "late"},
	}, result)

	loud := set.Evaluate(subject(func(s *Subject) { s.Message.Content = "HELLO" }))
	require.Equal(t, "do not shout", loud.Reject)
	require.Equal(t, []string{"shout"}, loud.Matched, "those after it are not evaluated")
}

func TestReplacementThatLeavesNothingRejects(t *testing.T) {
	set := parse(t, `rules: [{name: wipe, when: "true", replace: {match: ".", with: ""}}, {name: grow, when: "true", tag: never}]`)
	require.Equal(t, "rule wipe leaves no valid content", set.Evaluate(subject()).Reject)
	grow := parse(t, `rules: [{name: grow, when: "true", replace: {match: ".", with: "`+strings.Repeat("x", 2000)+`"}}]`)
	require.Equal(t, "rule grow leaves no valid content", grow.Evaluate(subject()).Reject)
	whole := parse(t, `rules: [{name: whole, when: "true", replace: {with: "gone"}}]`)
	require.Equal(t, "gone", whole.Evaluate(subject()).Content)
}

func TestRateCountsWhatTheSenderHasSentLately(t *testing.T) {
	set := parse(t, `
rules:
  - {name: minute, when: rate("1m") > 3, tag: minute}
  - {name: second, when: rate("1s") > 3, tag: second}
`)
	now := noon()
	send := func(user int64) []string {
		return set.Evaluate(subject(func(s *Subject) { s.Message.From, s.At = user, now })).Tags
	}
	for range 3 {
		require.Empty(t, send(1))
	}
	require.Equal(t, []string{"minute", "second"}, send(1))
	require.Empty(t, send(2), "another user has a rate of its own")
	now = now.Add(2 * time.Second)
	require.Equal(t, []string{"minute"}, send(1))
	now = now.Add(62 * time.Second)
	require.Empty(t, send(1))
	now = now.Add(-time.Hour)
	require.Empty(t, send(1), "what comes late counts nowhere")
}

func TestRatesAreKeptOfThoseWhoSentLast(t *testing.T) {
	r, err := newRates([]string{"1m", "1h"})
	require.NoError(t, err)
	for user := range int64(maxSenders + 10) {
		r.count(user, noon())
	}
	require.Equal(t, maxSenders, r.senders.Len())
	require.Zero(t, r.of(9, "1m", noon()))
	require.Equal(t, 1, r.of(maxSenders, "1m", noon()))
}

func TestFileIsRefusedWithLineAndReason(t *testing.T) {
	flood := func(rest string) string { return "floods:\n  - {name: f, " + rest + "}\n" }
	rule := func(rest string) string { return "rules:\n  - name: r\n    when: from == 1\n" + rest }
	for name, c := range map[string]struct {
		file string
		want []string
	}{
		"empty":               {"", []string{"empty"}},
		"no mapping":          {"- a\n", []string{"line 1: want a mapping"}},
		"no YAML":             {"rules: [\n", []string{"line"}},
		"two documents":       {"rules: []\n---\nrules: []\n", []string{"more than one document"}},
		"text for rules":      {"rules: none\n", []string{"line 1: want a list"}},
		"unknown key":         {rule("    tag: a\n    wen: x\n"), []string{"line 5: unknown key wen"}},
		"unknown top":         {"rule: []\n", []string{"line 1: unknown key rule"}},
		"unknown in replace":  {rule("    replace:\n      wit: x\n"), []string{"line 5: unknown key wit"}},
		"key twice":           {rule("    tag: a\n    tag: b\n"), []string{`line 5`, "already"}},
		"number for text":     {rule("    tag: 5\n"), []string{"line 4: want text"}},
		"list for text":       {rule("    reject: [a]\n"), []string{"line 4: want text"}},
		"text for replace":    {rule("    replace: x\n"), []string{"line 4: want a mapping"}},
		"no name":             {"rules:\n  - when: from == 1\n    tag: a\n", []string{"rule 1: name"}},
		"odd name":            {"rules:\n  - name: A b\n    when: from == 1\n    tag: a\n", []string{"line 2: name"}},
		"name twice":          {rule("    tag: a\n  - name: r\n    when: edit\n    tag: a\n"), []string{"line 5: another rule is called r"}},
		"no when":             {"rules:\n  - name: r\n    tag: a\n", []string{"line 2: rule r has no when"}},
		"no action":           {rule(""), []string{"line 2: rule r has 0 actions"}},
		"two actions":         {rule("    tag: a\n    reject: b\n"), []string{"line 2: rule r has 2 actions"}},
		"route to poison":     {rule("    route: poison\n"), []string{`line 4: route "poison": its topic would be the poison queue`}},
		"route with a dot":    {rule("    route: eu.vip\n"), []string{`line 4: route "eu.vip": want 1 to 64`}},
		"no route":            {rule("    route: ''\n"), []string{"line 4: route"}},
		"odd notify":          {rule("    notify: a b\n"), []string{`line 4: notify "a b": want`}},
		"recall for nothing":  {rule("    recall: ''\n"), []string{"line 4: recall wants a reason"}},
		"long reason":         {rule("    recall: " + strings.Repeat("x", 257) + "\n"), []string{"line 4: recall wants a reason of at most 256 bytes"}},
		"many routes":         {"rules:\n" + manyOf("route"), []string{"11 different routes, more than 10"}},
		"many to notify":      {"rules:\n" + manyOf("notify"), []string{"11 different names to notify, more than 10"}},
		"odd tag":             {rule("    tag: a,b\n"), []string{"line 4: tag"}},
		"no reason":           {rule("    reject: ''\n"), []string{"line 4: reject wants a reason"}},
		"bad regexp":          {rule("    replace: {match: '(', with: x}\n"), []string{"line 4: match: error parsing regexp"}},
		"replace by nothing":  {rule("    replace: {match: x}\n"), []string{"line 4: replace wants with"}},
		"all by nothing":      {rule("    replace: {with: ''}\n"), []string{"line 4: with wants"}},
		"bad expression":      {"rules:\n  - name: r\n    when: from ==\n    tag: a\n", []string{"line 3: when: unexpected token", "1:"}},
		"unknown name":        {"rules:\n  - name: r\n    when: form == 1\n    tag: a\n", []string{"line 3: when: unknown name form (at 1:1)"}},
		"wrong type":          {"rules:\n  - name: r\n    when: from == 'x'\n    tag: a\n", []string{"line 3: when: invalid operation"}},
		"no condition":        {"rules:\n  - name: r\n    when: from + 1\n    tag: a\n", []string{"line 3: when: expected bool"}},
		"bad regexp in when":  {"rules:\n  - name: r\n    when: content matches '('\n    tag: a\n", []string{"line 3: when: error parsing regexp"}},
		"regexp of a message": {"rules:\n  - name: r\n    when: content matches region\n    tag: a\n", []string{"line 3: when: matches wants"}},
		"loop":                {"rules:\n  - name: r\n    when: any(tags, # == 'a')\n    tag: a\n", []string{"line 3: when:"}},
		"endless condition":   {"rules:\n  - name: r\n    when: from == 1" + strings.Repeat(" || from == 1", 200) + "\n    tag: a\n", []string{"line 3: when: compilation failed"}},
		"no window":           {"rules:\n  - name: r\n    when: rate('x') > 1\n    tag: a\n", []string{`line 3: when: rate of "x"`}},
		"window of a message": {"rules:\n  - name: r\n    when: rate(region) > 1\n    tag: a\n", []string{"line 3: when: rate wants"}},
		"many windows": {
			"rules:\n  - name: r\n    when: rate('1s')+rate('2s')+rate('3s')+rate('4s')+rate('5s')+rate('6s')+rate('7s')+rate('8s')+rate('9s') > 1\n    tag: a\n",
			[]string{"9 different times"},
		},
		"flood without a name": {"floods: [{more_than: 1, within: 1s, recall: x}]\n", []string{"flood 1: name"}},
		"flood named as a rule": {
			rule("    tag: a\nfloods:\n  - {name: r, more_than: 1, within: 1s, recall: x}\n"), []string{"line 6: another rule is called r"},
		},
		"unknown in a flood":       {flood("more: 1"), []string{"line 2: unknown key more"}},
		"flood of nothing":         {flood("within: 1s, recall: x"), []string{"line 2: more_than 0: want 1 to 1000"}},
		"flood of too many":        {flood("more_than: 1001, within: 1s, recall: x"), []string{"line 2: more_than 1001"}},
		"text for a number":        {flood("more_than: '3'"), []string{"line 2: want a whole number"}},
		"fraction for a number":    {flood("more_than: 1.5"), []string{"line 2: want a whole number"}},
		"flood for ever":           {flood("more_than: 1, within: 25h, recall: x"), []string{`line 2: within "25h": want whole seconds`}},
		"flood for half a second":  {flood("more_than: 1, within: 1500ms, recall: x"), []string{`line 2: within "1500ms"`}},
		"flood without a time":     {flood("more_than: 1, recall: x"), []string{"line 2: within"}},
		"flood for no reason":      {flood("more_than: 1, within: 1s"), []string{"line 2: recall wants a reason"}},
		"flood of what":            {flood("more_than: 1, within: 1s, recall: x, per: user"), []string{`line 2: per "user": want sender or content`}},
		"flood of a bad condition": {flood("more_than: 1, within: 1s, recall: x, when: form == 1"), []string{"line 2: when: unknown name form"}},
		"flood of a rate":          {flood(`more_than: 1, within: 1s, recall: x, when: rate("1m") > 1`), []string{"line 2: when: a flood has no rate"}},
		"many floods":              {"floods:\n" + strings.Repeat("  - {name: f, more_than: 1, within: 1s, recall: x}\n", 21), []string{"21 floods, more than 20"}},
		"several faults": {
			"rules:\n  - name: a\n    when: form == 1\n    tag: a\n  - name: b\n    when: edit\n",
			[]string{"line 3: when: unknown name form", "line 5: rule b has 0 actions"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.file))
			require.Error(t, err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

// manyOf returns 11 rules with the action, which names another thing each.
func manyOf(action string) string {
	var rules strings.Builder
	for i := range 11 {
		fmt.Fprintf(&rules, "  - {name: r%d, when: edit, %s: to-%d}\n", i, action, i)
	}
	return rules.String()
}

func TestRulesRouteRecallAndNotifyWithoutHoldingUpLaterOnes(t *testing.T) {
	set := parse(t, `
rules:
  - {name: vip, when: user_type == "guest", route: vip}
  - {name: eu, when: region == "eu", route: eu}
  - {name: again, when: "true", route: vip}
  - {name: spam, when: content contains "spam", recall: no advertising}
  - {name: second, when: "true", recall: another reason}
  - {name: broken, when: extra.missing > 3, recall: never}
  - {name: oncall, when: '"seen" in tags', notify: moderators}
`)
	require.Equal(t, []string{"vip", "eu"}, set.Routes())
	require.Equal(t, events.Decisions{
		Routes: []string{"vip", "eu"}, Recall: "no advertising", Notify: []string{"moderators"},
	}, set.Evaluate(subject()).Decisions)
	other := set.Evaluate(subject(func(s *Subject) { s.UserType, s.Region, s.Tags, s.Message.Content = "", "us", nil, "hello" }))
	require.Equal(t, events.Decisions{Routes: []string{"vip"}, Recall: "another reason"}, other.Decisions)
}

func FuzzParse(f *testing.F) {
	f.Add("rules:\n  - name: r\n    when: from == 1 && rate('1m') > 3\n    replace: {match: a, with: b}\n")
	f.Add("floods: [{name: f, per: content, when: 'from > 1', more_than: 3, within: 10s, recall: x}]")
	f.Add("rules: [{name: r, when: 'extra.a?.b in tags', tag: eu}]")
	f.Add("rules: [{name: a, when: 'edit', route: vip}, {name: b, when: 'true', recall: x}, {name: c, when: 'true', notify: y}]")
	f.Fuzz(func(t *testing.T, file string) {
		set, err := Parse([]byte(file))
		if err != nil {
			return
		}
		s := subject()
		before := set.Evaluate(s)
		set.EvaluateFloods(s, 2)
		require.True(t, before.Content == "" || events.ValidateContent(before.Content) == nil)
	})
}

// BenchmarkEvaluate evaluates 20 rules, of which none matches.
func BenchmarkEvaluate(b *testing.B) {
	set := parse(b, manyRules(20))
	s := subject()
	b.ReportAllocs()
	for b.Loop() {
		set.Evaluate(s)
	}
}

func manyRules(n int) string {
	conditions := []string{
		`content contains "wire me money"`, `content matches "(?i)casino|lottery"`, `user_type == "banned" && rate("1m") > 10`,
		`len(content) > 10000 && message_type == 1`, `from in [1, 2, 3] && region == "xx"`,
	}
	var file strings.Builder
	file.WriteString("rules:\n")
	for i := range n {
		file.WriteString("  - name: r" + string(rune('a'+i)) + "\n    when: '" + conditions[i%len(conditions)] + "'\n    reject: no\n")
	}
	return file.String()
}
