package main

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	apiv1 "millrace/proto/millrace/api/v1"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// An operator finds what storage could not handle, looks at it, and has it handled again.
func TestEndToEndAnOperatorReplaysByTheAPI(t *testing.T) {
	besideOthers(t)
	var set atomic.Bool
	set.Store(true)
	d := startDevWith(t, t.TempDir(), trapped(&set))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a := proof.Join(t, d.url(), proof.Alice, nil)
	sent := a.Sends(t, client.ToUser(proof.Bob), trap)
	for range 2 {
		a.Sends(t, client.ToUser(proof.Bob), trap)
	}

	var list apiv1.ListPoisonedResponse
	require.Eventually(t, func() bool {
		list.Reset()
		d.asks(t, 200, "GET", "/v1/poison?filter.handler=storage&filter.reason=trapped&limit=2", "", &list)
		return list.GetSelected() == 3
	}, proof.Patience, 10*time.Millisecond)
	require.Len(t, list.GetRecords(), 2)
	record := list.GetRecords()[0]
	require.Equal(t, sent.Conversation, record.GetKey())
	require.InDelta(t, time.Now().Unix(), record.GetTime(), proof.Patience.Seconds())
	var whole apiv1.GetPoisonedResponse
	d.asks(t, 200, "GET", "/v1/poison/"+record.GetId(), "", &whole)
	require.Contains(t, whole.GetValue(), `"content":"trap"`)
	require.Equal(t, "storage", whole.GetHeaders()["poison_handler"])
	require.False(t, whole.GetCut())
	var handlers apiv1.ListHandlersResponse
	d.asks(t, 200, "GET", "/v1/handlers", "", &handlers)
	for _, h := range handlers.GetHandlers() {
		if h.GetName() == "storage" {
			require.Equal(t, "running", h.GetState())
			require.EqualValues(t, 3, h.GetPoisoned())
			require.EqualValues(t, 3, h.GetFailed())
			require.InDelta(t, time.Now().Unix(), h.GetOldestPoisoned(), proof.Patience.Seconds())
			require.NotNil(t, h.Retries)
			require.NotNil(t, h.Lag)
		}
	}

	var partitions apiv1.ListPartitionsResponse
	d.asks(t, 200, "GET", "/v1/handlers/storage/partitions", "", &partitions)
	require.GreaterOrEqual(t, len(partitions.GetPartitions()), events.EmbeddedPartitions)
	for i, p := range partitions.GetPartitions() {
		require.EqualValues(t, i, p.GetPartition())
	}
	d.asks(t, 404, "GET", "/v1/handlers/telepathy/partitions", "", nil)
	d.asks(t, 404, "GET", "/v1/handlers/analytics/partitions", "", nil) // which does not run here

	set.Store(false)
	var replayed apiv1.ReplayPoisonedResponse
	d.asks(t, 200, "POST", "/v1/poison:replay", `{"filter":{"handler":"storage"},"dry_run":true}`, &replayed)
	require.EqualValues(t, 3, replayed.GetReplayed())
	replayed.Reset()
	d.asks(t, 200, "POST", "/v1/poison:replay", `{"filter":{"handler":"storage"},"limit":1}`, &replayed)
	require.EqualValues(t, 1, replayed.GetReplayed())
	require.EqualValues(t, 2, replayed.GetRemaining())
	eventually(t, a, sent.Conversation, 1)
	var page apiv1.ListMessagesResponse
	d.asks(t, 200, "GET", "/v1/conversations/"+sent.Conversation+"/messages?user=1001", "", &page)
	var inspected apiv1.InspectConversationResponse
	d.asks(t, 200, "GET", fmt.Sprintf("/v1/conversations/%s/log?seqs=%d", sent.Conversation, page.GetMessages()[0].GetSeq()), "", &inspected)
	require.Len(t, inspected.GetOrigins(), 1)
	require.NotEmpty(t, inspected.GetOrigins()[0].GetCorrelationId())
	require.GreaterOrEqual(t, inspected.GetEnd(), inspected.GetStored())
	var discarded apiv1.DiscardPoisonedResponse
	d.asks(t, 200, "POST", "/v1/poison:discard", `{"filter":{"reason":"trapped"},"why":"a test"}`, &discarded)
	require.EqualValues(t, 2, discarded.GetDiscarded())
	d.asks(t, 200, "GET", "/v1/poison", "", &list)
	require.Zero(t, list.GetSelected())

	for body, want := range map[string]int{
		`{}`: 400, `{"filter":{}}`: 400, `{"filter":{"handler":"storage"},"limit":1001}`: 400, `{"filter":{"handler":"storage"},"topic":"no"}`: 404,
	} {
		d.asks(t, want, "POST", "/v1/poison:replay", body, nil)
	}
	d.asks(t, 400, "POST", "/v1/poison:discard", `{"filter":{"handler":"storage"}}`, nil)
	d.asks(t, 404, "GET", fmt.Sprint("/v1/poison/0:", 1<<40), "", nil)
}
