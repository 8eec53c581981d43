package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/infra/rules"
)

func TestRulesAreListedWithWhatTheyHaveDone(t *testing.T) {
	c := newCallers(t)
	code, body := c.ask(c.serve(t, Config{}, &Service{}), "read", "GET", "/v1/rules", "")
	require.Equal(t, 200, code, body)
	require.JSONEq(t, `{}`, body, "a node without rules")
	h := c.serveOperator(t, Config{}, &Service{}, &Operator{Rules: func() rules.State {
		return rules.State{Path: "rules.yaml", Loaded: time.Unix(9, 0), Fault: "line 3: wrong", Rules: []rules.RuleState{
			{Name: "guests", When: `user_type == "guest"`, Action: "reject", Matched: 7, Failed: 1},
		}}
	}})
	code, body = c.ask(h, "read", "GET", "/v1/rules", "")
	require.Equal(t, 200, code, body)
	require.JSONEq(t, `{"file":"rules.yaml","loaded":"9","fault":"line 3: wrong","rules":[
		{"name":"guests","when":"user_type == \"guest\"","action":"reject","matched":"7","failed":"1"}]}`, body)
	code, _ = c.ask(h, "send", "GET", "/v1/rules", "")
	require.Equal(t, 403, code)
}
