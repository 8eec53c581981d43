package webhook

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

// secret is a good one.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestConfigurationSaysWhatEachEndpointGets(t *testing.T) {
	endpoints, err := Parse([]byte(`# comment
endpoints:
  - name: crm
    url: https://crm.example.com/hook?tenant=7
    secrets: [` + secret + `, ` + secret + `]
  - name: bi-2
    url: http://127.0.0.1:8000
    secrets:
      - ` + secret + `
    types: [new_message, message_recalled]
    notify: [lawyers, on-call]
    order: none
    timeout: 1500ms
    parallel: 3
    allow_private: true
`))
	require.NoError(t, err)
	require.Len(t, endpoints, 2)
	crm, bi := endpoints[0], endpoints[1]
	require.Len(t, crm.Keys, 2)
	crm.Keys = nil
	require.Equal(t, Endpoint{
		Name: "crm", URL: "https://crm.example.com/hook?tenant=7", InOrder: true, Timeout: 5 * time.Second, Parallel: 16,
	}, crm)
	require.Len(t, bi.Keys, 1)
	bi.Keys = nil
	require.Equal(t, Endpoint{
		Name: "bi-2", URL: "http://127.0.0.1:8000", Types: []events.Type{events.NewMessage, events.MessageRecalled},
		Notify: []string{"lawyers", "on-call"}, Timeout: 1500 * time.Millisecond, Parallel: 3, AllowPrivate: true,
	}, bi)
}

func TestWrongConfigurationIsRefusedWithLineAndReason(t *testing.T) {
	good := func(more string) string {
		return "endpoints:\n- name: crm\n  url: https://example.com\n  secrets: [" + secret + "]\n" + more
	}
	for name, test := range map[string]struct{ file, want string }{
		"nothing":             {"", "line 1: want a list of endpoints"},
		"no endpoints":        {"endpoints: []", "line 1: want a list of endpoints"},
		"no YAML":             {"endpoints: [", "line 1"},
		"several documents":   {good("---\n" + good("")), "line 1: want one document"},
		"unknown member":      {good("  colour: red"), "line 5: field colour not found"},
		"member twice":        {good("  name: bi"), `line 5: mapping key "name" already defined at line 2`},
		"name":                {strings.Replace(good(""), "crm", "CRM", 1), "line 2: name: want"},
		"name of a version":   {strings.Replace(good(""), "crm", "crm-v2", 1), "line 2: name: an end such as -v2"},
		"no name":             {"endpoints:\n- url: https://example.com\n  secrets: [" + secret + "]", "line 2: name: want"},
		"name twice":          {good("- name: crm\n  url: https://example.com\n  secrets: [" + secret + "]"), "line 5: name: the endpoint in line 2 has the same"},
		"no URL":              {"endpoints:\n- name: crm\n  secrets: [" + secret + "]", "line 2: url: want https://"},
		"relative URL":        {strings.Replace(good(""), "https://example.com", "/hook", 1), "line 3: url: want https://"},
		"other scheme":        {strings.Replace(good(""), "https:", "ftp:", 1), "line 3: url: want https://"},
		"plain HTTP":          {strings.Replace(good(""), "https:", "http:", 1), "line 3: url: want https; http is for private"},
		"user in URL":         {strings.Replace(good(""), "example", "u:hunter2@example", 1), "line 3: url: want no user"},
		"fragment":            {strings.Replace(good(""), "example.com", "example.com/#x", 1), "line 3: url: want no fragment"},
		"no secret":           {strings.Replace(good(""), secret, "", 1), "line 2: secrets: want 1 to 8"},
		"short secret":        {strings.Replace(good(""), secret, "whsec_aHVudGVyMg==", 1), "line 4: secrets: a secret of 7 bytes"},
		"odd notify":          {good("  notify: [on call]"), `line 5: notify: "on call" is no name`},
		"unknown type":        {good("  types: [new_mesage]"), `line 5: types: "new_mesage" is no type`},
		"unknown order":       {good("  order: random"), `line 5: order: "random" is neither`},
		"no duration":         {good("  timeout: 3"), `line 5: timeout: "3" is no duration`},
		"too long a timeout":  {good("  timeout: 1m"), `line 5: timeout: "1m" is no duration from 100ms to 20s`},
		"none in parallel":    {good("  parallel: 0"), "line 5: parallel: 0 is not between 1 and 256"},
		"no number":           {good("  parallel: hunter2"), "line 5: cannot unmarshal a value of type str into int"},
		"no truth value":      {good("  allow_private: perhaps"), "line 5: cannot unmarshal a value of type str into bool"},
		"secrets of no list":  {strings.Replace(good(""), "["+secret+"]", secret, 1), "line 4: cannot unmarshal"},
		"all faults are told": {good("  order: random\n  timeout: never"), "neither conversation nor none\nline 6: timeout: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(test.file))
			require.ErrorContains(t, err, test.want)
			for _, hidden := range []string{"MfKQ9r8G", "hunter2", "aHVudGVy"} {
				require.NotContains(t, err.Error(), hidden)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("endpoints:\n- {name: a, url: 'https://example.com', secrets: [" + secret + "], types: [new_message], notify: [b], order: none, timeout: 3s, parallel: 2}"))
	f.Add([]byte("endpoints: [{name: &a crm, url: *a}]"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		endpoints, err := Parse(data)
		if err != nil {
			require.Empty(t, endpoints)
			return
		}
		require.NotEmpty(t, endpoints)
		names := map[string]bool{}
		for _, e := range endpoints {
			require.Regexp(t, endpointName, e.Name)
			require.False(t, names[e.Name])
			names[e.Name] = true
			require.NotEmpty(t, e.Keys)
			require.Empty(t, checkURL(e.URL, e.AllowPrivate))
			require.GreaterOrEqual(t, e.Timeout, minTimeout)
			require.LessOrEqual(t, e.Timeout, maxTimeout)
			require.Positive(t, e.Parallel)
		}
	})
}
