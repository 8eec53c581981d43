package api

import (
	"context"

	apiv1 "millrace/proto/millrace/api/v1"
)

// ListRules implements the call of the contract.
func (o *Operator) ListRules(context.Context, *apiv1.ListRulesRequest) (*apiv1.ListRulesResponse, error) {
	response := &apiv1.ListRulesResponse{}
	if o.Rules == nil {
		return response, nil
	}
	state := o.Rules()
	response.File, response.Loaded, response.Fault = state.Path, state.Loaded.Unix(), valid(state.Fault)
	for _, r := range state.Rules {
		response.Rules = append(response.Rules, &apiv1.Rule{Name: r.Name, When: r.When, Action: r.Action, Matched: r.Matched, Failed: r.Failed})
	}
	return response, nil
}
