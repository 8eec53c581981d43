package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every read, and every look-up of a write, must use an index: none may scan a table or sort what an index could return in
// order.
func TestQueriesSearchIndexes(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "store.db"))
	for name, query := range map[string]string{
		"oldest page": oldestPage, "newest page": newestPage, "message by id": messageByID,
		"last message":   lastMessage,
		"latest of user": latestOfUser, "user's stays": userStays,
		"messages within": messagesWithin, "changes within": changesWithin,
		"group": groupByName, "members": groupMembers, "memberships": currentStays, "stays in group": staysInGroup,
		"group id": findGroupID, "version": insertVersion, "versions": deleteVersions,

		"change": findChange, "change by id": changeByID, "read mark": readMark, "settings": userSettings,
		"readers of a group": readersOfGroup, "readers of two": readersOfTwo,
		"conversation": findConversation, "message": findMessage, "topic": findTopic,
		"head": advanceHead, "move message": moveMessage,
		"edit": editMessage, "recall": recallMessage, "advance read mark": advanceReadMark,
		"settings of one": settingsNamed, "due": dueNotifications, "take": takeNotification, "settle": settleNotification,
		"told": dropTold, "told before": dropNotifications,
		"subscriptions": userSubscriptions, "drop subscription": dropSubscription,
		"user": findUser, "users online": onlineUsers, "block": findBlock, "blocked users": blockedUsersOf,
		"participations": participations, "revoked tokens": findRevoked,
		"erased in": erasedIn, "erase messages": eraseMessages, "erase names": eraseNames, "erase settings": eraseSettings, "erase seen": eraseSeen,
		"erase subscriptions": eraseSubscriptions, "erase notifications": eraseNotifications,
		"find group": findGroup, "stay": findStays, "end stay": endStay, "end stays": endStays, "dissolve": dissolveGroup,
	} {
		t.Run(name, func(t *testing.T) { requireSearches(t, plan(t, db, query), "SCALAR SUBQUERY", "REUSE SUBQUERY") })
	}
	t.Run("messages by id are looked up, however many are asked for", func(t *testing.T) {
		requireSearches(t, plan(t, db, sentAt), "SCAN json_each")
	})
	t.Run("a step of an erasure is one range of the conversation", func(t *testing.T) {
		for _, query := range []string{erasureSection, eraseVersions, eraseGroupName} {
			requireSearches(t, plan(t, db, query), "SCAN CONSTANT ROW", "SCALAR SUBQUERY", "LIST SUBQUERY", "CORRELATED SCALAR SUBQUERY")
		}
	})
	t.Run("erasures are looked up, however many users are asked for", func(t *testing.T) {
		requireSearches(t, plan(t, db, erasuresOf), "LIST SUBQUERY", "SCAN json_each", "CREATE BLOOM FILTER")
	})
	t.Run("a message is one look into the index of ids", func(t *testing.T) {
		for _, query := range []string{findMessage, moveMessage, messageByID} {
			require.Contains(t, plan(t, db, query)[0], "INDEX message_ids (id=?")
		}
	})
	t.Run("a page is one range of the conversation", func(t *testing.T) {
		for _, query := range []string{oldestPage, newestPage} {
			require.Equal(t, "SEARCH m USING PRIMARY KEY (conversation_id=? AND seq>? AND seq<?)", plan(t, db, query)[0])
		}
	})
	t.Run("a user's conversations are sorted, no others", func(t *testing.T) {
		requireSearches(t, plan(t, db, userHeads), "USE TEMP B-TREE FOR ORDER BY", "CORRELATED SCALAR SUBQUERY")
	})
	t.Run("unread messages are counted among a bounded number", func(t *testing.T) {
		requireSearches(t, plan(t, db, countUnread), "CO-ROUTINE (subquery-1)", "SCAN (subquery-1)")
	})
}

func requireSearches(t *testing.T, steps []string, besides ...string) {
	t.Helper()
	for _, step := range steps {
		other := slices.ContainsFunc(besides, func(b string) bool { return strings.HasPrefix(step, b) })
		require.True(t, other || strings.HasPrefix(step, "SEARCH "), step)
	}
}

func plan(t *testing.T, db *DB, query string) []string {
	t.Helper()
	var steps []string
	args := make([]any, strings.Count(query, "?"))
	require.NoError(t, db.readers.within(t.Context(), func(ctx context.Context, c *conn) error {
		return c.list(ctx, "EXPLAIN QUERY PLAN "+query, args, func(rows *sql.Rows) error {
			var id, parent, unused int
			var step string
			err := rows.Scan(&id, &parent, &unused, &step)
			steps = append(steps, step)
			return err
		})
	}))
	require.NotEmpty(t, steps)
	return steps
}
