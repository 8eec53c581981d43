package mongo

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"millrace/events"
	"millrace/infra/store"
	"millrace/infra/store/mongo/mongotest"
)

// Every read must use an index: none may scan a collection or sort what an index could return in order.
func TestQueriesSearchIndexes(t *testing.T) {
	server := mongotest.Start(t)
	if server.Ferret {
		t.Skip("FerretDB 1.24 uses an index for nothing but uniqueness and a single _id; its explain shows SQLite's plan")
	}
	db := opened(t, server.Database(t))
	seqs := make(map[int32]int64)
	var records []events.Record
	for i := range 500 {
		records = append(records, record(seqs, int64(i%50), i))
	}
	for _, err := range db.SaveBatch(t.Context(), records) {
		require.NoError(t, err)
	}
	name := records[0].Message.Conversation
	windows := []window{
		{conversation: name, Range: events.Range{After: 1, Through: math.MaxInt64}},
		{conversation: records[1].Message.Conversation, Range: events.Range{Through: 5}},
	}
	one := map[string]bool{name: true}
	for what, q := range map[string]query{
		"oldest page":         db.page(name, store.Page{After: 1, Before: 9, Limit: 3}),
		"newest page":         db.page(name, store.Page{Newest: true, Limit: 3}),
		"messages by id":      db.messagesByID(one, map[string]bool{"a": true, "b": true}),
		"messages within":     anyOf(db.messages, windows, 10),
		"changes by id":       db.changesByID(one, map[string]bool{"a": true}),
		"changes within":      anyOf(db.changes, windows, 10),
		"conversation":        db.conversationByName(name),
		"conversations":       db.conversationsByName([]string{name, "g:1"}),
		"participant":         db.participantOf(1, name),
		"senders":             db.participantsByID(map[int64]bool{1: true}, map[string]bool{"a": true, "b": true}),
		"user's":              db.participantsOf(1),
		"members":             db.membersOf("g:1"),
		"memberships of user": db.membershipsOf(1),
		"versions":            db.versionsOf(name, []string{"a", "b"}, 7),
		"who left":            db.leftAfter("g:1", 5),
		"users by id":         db.usersByID([]int64{1, 2}),
		"users online":        db.usersOnline(3),
		"blocks":              db.blocksOf([]store.Pair{{By: 1, User: 2}, {By: 2, User: 1}}),
		"blocked users":       db.blockedBy(1, 5),
		"group id":            db.groupIDOf("1 c"),
		"subscriptions":       db.subscriptionsOf([]int64{1}),
		"notifications due":   db.notificationsDue(time.Now(), 5),
		"revoked tokens":      db.revocationOf(1),
		"progress":            db.progressOf("users"),
		"erasures":            db.erasuresOf([]int64{1, 2}),
	} {
		t.Run(what, func(t *testing.T) {
			stages := plan(t, q)
			require.NotContains(t, stages, "COLLSCAN")
			require.NotContains(t, stages, "SORT")
		})
	}
	t.Run("a user's conversations are sorted, no others", func(t *testing.T) {
		require.NotContains(t, plan(t, db.latestOf([]string{name, "g:1"}, store.Place{ActiveAt: 1, Conversation: name}, 5)), "COLLSCAN")
	})
}

func plan(t *testing.T, q query) []string {
	t.Helper()
	find := doc(field("find", q.of.Name()), field("filter", q.filter))
	if q.sort != nil {
		find = append(find, field("sort", q.sort))
	}
	if q.limit > 0 {
		find = append(find, field("limit", int64(q.limit)))
	}
	answer, err := q.of.Database().RunCommand(t.Context(), doc(field("explain", find), field("verbosity", "queryPlanner"))).Raw()
	require.NoError(t, err)
	winning, err := answer.LookupErr("queryPlanner", "winningPlan")
	require.NoError(t, err, "%s", answer)
	stages := stagesIn(winning)
	require.NotEmpty(t, stages, "%s", answer)
	return stages
}

// stagesIn returns the names of all stages of a plan, of either of the server's query engines.
func stagesIn(plan bson.RawValue) []string {
	var stages []string
	var elements []bson.RawElement
	switch plan.Type {
	case bson.TypeEmbeddedDocument:
		elements, _ = plan.Document().Elements()
	case bson.TypeArray:
		elements, _ = bson.Raw(plan.Array()).Elements()
	}
	for _, e := range elements {
		if name, ok := e.Value().StringValueOK(); ok && e.Key() == "stage" {
			stages = append(stages, name)
		}
		stages = append(stages, stagesIn(e.Value())...)
	}
	return stages
}

// The plans have the forms that MongoDB's documentation of explain shows.
func TestStagesOfAPlanAreFoundWhereverTheyAre(t *testing.T) {
	for _, c := range []struct {
		plan string
		want []string
	}{
		{`{"plan": {"stage": "COLLSCAN", "direction": "forward"}}`, []string{"COLLSCAN"}},
		{
			`{"plan": {"stage": "LIMIT", "inputStage": {"stage": "FETCH", "inputStage": {"stage": "IXSCAN", "indexName": "a_1"}}}}`,
			[]string{"LIMIT", "FETCH", "IXSCAN"},
		},
		{
			`{"plan": {"queryPlan": {"stage": "SUBPLAN", "inputStage": {"stage": "OR", "inputStages": [{"stage": "IXSCAN"}, {"stage": "SORT"}]}},
				"slotBasedPlan": {"stages": "[1] filter"}}}`,
			[]string{"SUBPLAN", "OR", "IXSCAN", "SORT"},
		},
	} {
		var raw bson.Raw
		require.NoError(t, bson.UnmarshalExtJSON([]byte(c.plan), false, &raw))
		require.Equal(t, c.want, stagesIn(raw.Lookup("plan")))
	}
}
