package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/auth"
	"millrace/services/client"
	"millrace/services/client/clienttest"
)

// bench runs the command against the fake with small numbers.
func bench(t *testing.T, f *clienttest.Fake, args ...string) (benchReport, error) {
	cmd := NewCommand()
	var out, status bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&status)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(append([]string{
		"--url=" + f.WebSocket(), "--token-secret=", "--pairs=4", "--in-flight=8", "--count=300", "--serial-count=60", "--clients=4", "--missed=50", "--json",
	}, args...))
	err := cmd.ExecuteContext(t.Context())
	var report benchReport
	if out.Len() > 0 {
		require.NoError(t, json.Unmarshal(out.Bytes(), &report))
	}
	return report, err
}

func TestBenchCountsWhatASoundServerDid(t *testing.T) {
	report, err := bench(t, clienttest.New(t))
	require.NoError(t, err)
	require.Zero(t, report.Violations)
	require.Len(t, report.Results, 2)
	for i, want := range []int{60, 4 * 300} {
		r := report.Results[i]
		require.EqualValues(t, want, r.Accepted)
		require.EqualValues(t, want, r.Delivered)
		require.Equal(t, want, r.Stored)
		require.Positive(t, r.Ack.P50)
		require.Positive(t, r.Delivery.P99)
		require.Positive(t, r.StoredRate)
	}
}

// makesGroups is the answer of a fake to the request for a group.
func makesGroups(string, json.RawMessage) string { return `"group":{"group_id":7}` }

func TestFanoutCountsWhatEveryMemberGot(t *testing.T) {
	f := clienttest.New(t)
	f.Answer = makesGroups
	report, err := bench(t, f, "--mode=fanout", "--members=20", "--count=100")
	require.NoError(t, err)
	require.Len(t, report.Results, 1)
	require.EqualValues(t, 100, report.Results[0].Accepted)
	require.EqualValues(t, 19*100, report.Results[0].Delivered)
	require.Equal(t, 100, report.Results[0].Stored)
	for conversation, stored := range f.Stored {
		require.Equal(t, "g:7", conversation)
		require.Len(t, stored, 100)
	}
}

func TestFanoutFailsWhenOneMemberMissesAMessage(t *testing.T) {
	f := clienttest.New(t)
	f.Answer = makesGroups
	const last = 9_000_001 + 2 + 2*4 + 2*2000 + 4 // of the five members, whose ids are behind those of the other modes' users
	f.Deliver = func(user int64, m client.Message) []client.Message {
		if user == last && isMessage(m.Content, 50) {
			return nil
		}
		return []client.Message{m}
	}
	report, err := bench(t, f, "--mode=fanout", "--members=5", "--count=100", "--patience=2s")
	require.ErrorIs(t, err, errBroken)
	require.Contains(t, strings.Join(report.Results[0].Violations, "\n"), "what listener 3 got lacks 1 of 100 messages, the first is 50")
}

func TestFanoutSaysWhyThereIsNoGroup(t *testing.T) {
	f := clienttest.New(t)
	f.Answer = func(string, json.RawMessage) string { return `"error":{"code":"rate_limited","message":"later"}` }
	_, err := bench(t, f, "--mode=fanout", "--members=5", "--count=100")
	require.ErrorContains(t, err, "create a group of 5: rate_limited")
}

func TestBenchStopsAfterItsDuration(t *testing.T) {
	report, err := bench(t, clienttest.New(t), "--mode=load", "--count=0", "--duration=200ms")
	require.NoError(t, err)
	require.Len(t, report.Results, 1)
	require.Positive(t, report.Results[0].Accepted)
	require.EqualValues(t, report.Results[0].Accepted, report.Results[0].Stored)
}

func TestBenchDoesNotCountEarlierRuns(t *testing.T) {
	f := clienttest.New(t)
	for range 2 {
		report, err := bench(t, f, "--mode=load")
		require.NoError(t, err)
		require.Equal(t, 4*300, report.Results[0].Stored)
	}
}

func TestBenchRepeatsRefusedMessagesAndSaysHowMany(t *testing.T) {
	for _, code := range []string{client.Unavailable, client.RateLimited} {
		t.Run(code, func(t *testing.T) {
			f := clienttest.New(t)
			f.Refuse = func(content string) string {
				// The fake drops everything from one message on, until that message is sent again.
				key := strings.Join(strings.Fields(content)[:2], " ")
				if isMessage(content, 50) && !f.Refused[content] {
					f.Refused[content], f.Refused[key] = true, true
					return code
				}
				if isMessage(content, 50) {
					f.Refused[key] = false
				}
				if f.Refused[key] {
					return code
				}
				return ""
			}
			report, err := bench(t, f, "--mode=load")
			require.NoError(t, err)
			require.GreaterOrEqual(t, report.Results[0].Refused, 4)
			require.EqualValues(t, 4*300, report.Results[0].Accepted)
		})
	}
}

// This test checks the checker: each of these servers breaks one promise once, and the bench must report it.
func TestBenchFailsWhenOneMessageIsWrong(t *testing.T) {
	const receiver, sender = 9_000_004, 9_000_003 // those of the first pair of the load
	// wrong makes the server treat message 100 in another way for one user.
	wrong := func(who int64, what func(user int64, m client.Message) []client.Message) func(int64, client.Message) []client.Message {
		return func(user int64, m client.Message) []client.Message {
			if user != who {
				return []client.Message{m}
			}
			return what(user, m)
		}
	}
	drop := func(_ int64, m client.Message) []client.Message {
		if isMessage(m.Content, 100) {
			return nil
		}
		return []client.Message{m}
	}
	double := func(_ int64, m client.Message) []client.Message {
		if isMessage(m.Content, 100) {
			return []client.Message{m, m}
		}
		return []client.Message{m}
	}
	swap := func() func(int64, client.Message) []client.Message {
		var held client.Message
		return func(_ int64, m client.Message) []client.Message {
			switch {
			case isMessage(m.Content, 100):
				held = m
				return nil
			case isMessage(m.Content, 101):
				return []client.Message{m, held}
			}
			return []client.Message{m}
		}
	}
	tests := map[string]struct {
		breaks func(f *clienttest.Fake)
		says   string
	}{
		"lost to the receiver":         {func(f *clienttest.Fake) { f.Deliver = wrong(receiver, drop) }, "what the receiver got lacks 1 of 300"},
		"lost to the sender":           {func(f *clienttest.Fake) { f.Deliver = wrong(sender, drop) }, "what the sender got lacks 1 of 300"},
		"doubled to the receiver":      {func(f *clienttest.Fake) { f.Deliver = wrong(receiver, double) }, "what the receiver got has 1 messages twice"},
		"doubled to the sender":        {func(f *clienttest.Fake) { f.Deliver = wrong(sender, double) }, "what the sender got has 1 messages twice"},
		"out of order to the receiver": {func(f *clienttest.Fake) { f.Deliver = wrong(receiver, swap()) }, "what the receiver got is not in the order of seq"},
		"out of order to the sender":   {func(f *clienttest.Fake) { f.Deliver = wrong(sender, swap()) }, "what the sender got is not in the order of seq"},
		"another seq than in history": {func(f *clienttest.Fake) {
			f.Deliver = wrong(receiver, func(_ int64, m client.Message) []client.Message {
				if isMessage(m.Content, 299) {
					m.Seq += 1_000_000
				}
				return []client.Message{m}
			})
		}, "what the receiver got is not what the history is"},
		"to another pair": {func(f *clienttest.Fake) {
			f.Deliver = wrong(receiver, func(_ int64, m client.Message) []client.Message {
				if isMessage(m.Content, 100) {
					m.Content = strings.Replace(m.Content, " 0 ", " 3 ", 1)
				}
				return []client.Message{m}
			})
		}, "a message of another pair: 3"},
		"not stored": {func(f *clienttest.Fake) {
			f.Keep = func(stored []client.Message) []client.Message {
				return slices.DeleteFunc(slices.Clone(stored), func(m client.Message) bool { return isMessage(m.Content, 100) })
			}
		}, "history lacks 1 of 300"},
		"stored twice": {func(f *clienttest.Fake) {
			f.Keep = func(stored []client.Message) []client.Message {
				if i := slices.IndexFunc(stored, func(m client.Message) bool { return isMessage(m.Content, 100) }); i >= 0 {
					again := stored[i]
					again.Seq += 1_000_000
					return append(slices.Clone(stored), again)
				}
				return stored
			}
		}, "history has 1 messages twice"},
		"the last one never stored": {func(f *clienttest.Fake) {
			f.Keep = func(stored []client.Message) []client.Message {
				return slices.DeleteFunc(slices.Clone(stored), func(m client.Message) bool { return isMessage(m.Content, 299) })
			}
		}, "nothing has moved"},
		"refused for good": {func(f *clienttest.Fake) {
			f.Refuse = func(content string) string {
				if isMessage(content, 100) {
					return client.PermissionDenied
				}
				return ""
			}
		}, "message 100 was refused: permission_denied"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := clienttest.New(t)
			tt.breaks(f)
			report, err := bench(t, f, "--mode=load", "--patience=2s")
			require.ErrorIs(t, err, errBroken)
			require.Contains(t, strings.Join(report.Results[0].Violations, "\n"), tt.says)
		})
	}
}

func TestSerialBenchFailsWhenAMessageDoesNotArrive(t *testing.T) {
	f := clienttest.New(t)
	f.Deliver = func(user int64, m client.Message) []client.Message {
		if user == 9_000_002 && isMessage(m.Content, 30) {
			return nil
		}
		return []client.Message{m}
	}
	report, err := bench(t, f, "--mode=serial", "--patience=2s")
	require.ErrorIs(t, err, errBroken)
	require.Contains(t, strings.Join(report.Results[0].Violations, "\n"), "message 30 was accepted but has not arrived")
}

// isMessage reports whether the content is that of the message with the index, in the run of the first pair or of any other.
func isMessage(content string, index int) bool {
	words := strings.Fields(content)
	return len(words) > 2 && words[2] == fmt.Sprint(index)
}

func TestBenchFailsBeforeItRunsWithoutAServer(t *testing.T) {
	f := clienttest.New(t)
	f.Close()
	_, err := bench(t, f)
	require.ErrorContains(t, err, "is the server running?")
}

func TestBenchRefusesOptionsThatMakeNoSense(t *testing.T) {
	for _, arg := range []string{
		"--mode=fast", "--pairs=0", "--many-pairs=0", "--members=2", "--rounds=0", "--in-flight=201", "--size=10", "--count=-1", "--serial-count=0", "--patience=0s", "--first-user=0",
	} {
		_, err := bench(t, clienttest.New(t), arg)
		require.ErrorContains(t, err, strings.Split(arg, "=")[0])
	}
}

func TestBenchTableShowsNumbersAndVerdict(t *testing.T) {
	report := benchReport{Results: []benchResult{{
		Mode: modeLoad, Pairs: 50, Window: 16, Accepted: 1234, AcceptedRate: 20_000, Ack: benchLatency{P50: 0.31},
		Violations: slices.Repeat([]string{"bad \x1b[2J"}, maxViolationsShown+3),
	}}, Violations: maxViolationsShown + 3}
	var out bytes.Buffer
	require.NoError(t, report.print(&out, false))
	for _, want := range []string{"delivered/s", "1234", "20000", "0.31", "load: and 3 more", "FAILED: 23 violations"} {
		require.Contains(t, out.String(), want)
	}
	require.NotContains(t, out.String(), "\x1b")
}

func TestBenchSignsItsTokensWithTheSecretThatIsSet(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	signed, err := benchOptions{secret: secret}.tokens().Of(7)(t.Context())
	require.NoError(t, err)
	id, err := auth.NewSecretVerifier(secret).Verify(t.Context(), signed)
	require.NoError(t, err)
	require.EqualValues(t, 7, id.User)
}

func TestResumeMeasuresWhatComesAfterTheReturn(t *testing.T) {
	report, err := bench(t, clienttest.New(t), "--mode=resume", "--clients=5", "--missed=40")
	require.NoError(t, err)
	require.Len(t, report.Results, 1)
	r := report.Results[0]
	require.EqualValues(t, 5*40, r.Accepted)
	require.EqualValues(t, 5*40, r.Delivered)
	require.Equal(t, 5*40, r.Stored)
	require.Positive(t, r.DeliveredRate)
}
