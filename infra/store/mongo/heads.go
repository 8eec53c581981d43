package mongo

import (
	"context"
	"fmt"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/infra/store"
)

const (
	maxUnread = 999
	// countedMessages bounds the work of counting: of what is unread, this many of the newest are looked at. It counts
	// fewer than there are only if the user's own and recalled messages are more than half of them.
	countedMessages = 2 * maxUnread
	// headsAtOnce bounds how many conversations of one list are completed at the same time.
	headsAtOnce = 8
)

// Heads answers the user's direct conversations and the groups it is a member of, the one with the latest message or
// change of membership first.
func (db *DB) Heads(ctx context.Context, user int64, limit int) ([]store.Head, error) {
	heads, err := db.heads(ctx, user, limit)
	if err != nil {
		return nil, fmt.Errorf("conversations of user %d: %w", user, err)
	}
	return heads, nil
}

func (db *DB) heads(ctx context.Context, user int64, limit int) ([]store.Head, error) {
	if limit <= 0 {
		return nil, nil
	}
	participants, err := find[participant](ctx, db.participantsOf(user))
	if err != nil {
		return nil, err
	}
	listed := make(map[string]*participant, len(participants))
	names := make([]string, 0, len(participants))
	for i := range participants {
		p := &participants[i]
		parsed, err := events.ParseConversation(p.Conversation)
		if err != nil {
			return nil, err
		}
		if parsed.GroupID == 0 || p.Joined != 0 {
			listed[p.Conversation] = p
			names = append(names, p.Conversation)
		}
	}
	latest, err := find[conversation](ctx, db.latestOf(names, limit))
	if err != nil {
		return nil, err
	}
	heads := make([]store.Head, len(latest))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(headsAtOnce)
	for i, c := range latest {
		group.Go(func() (err error) {
			heads[i], err = db.head(ctx, listed[c.Name])
			return err
		})
	}
	return heads, group.Wait()
}

// latestOf finds each conversation by its name; no others are sorted.
func (db *DB) latestOf(names []string, limit int) query {
	return query{
		of:     db.conversations,
		filter: doc(field("_id", doc(field("$in", names))), field("last_seq", doc(field("$gt", int64(0))))),
		sort:   doc(field("active_at", -1), field("last_seq", -1)),
		limit:  limit,
	}
}

// head has the last message that the user may see and the number of those it has not read.
func (db *DB) head(ctx context.Context, p *participant) (store.Head, error) {
	h := store.Head{Conversation: p.Conversation, ReadSeq: p.ReadSeq}
	pages := []store.Page{{After: p.Joined}}
	for i := len(p.Past) - 1; i >= 0; i-- {
		left := p.Past[i].Left
		pages = append(pages, store.Page{After: p.Past[i].Joined, Before: left + 1, AsOf: left, Reader: p.User})
	}
	for _, page := range pages {
		page.Newest, page.Limit = true, 1
		last, _, err := db.History(ctx, p.Conversation, page)
		if err != nil {
			return h, err
		}
		if len(last) != 0 {
			h.Last = &last[0]
			break
		}
	}
	var err error
	if h.Unread, err = db.unread(ctx, p); err != nil {
		return h, fmt.Errorf("%s: %w", p.Conversation, err)
	}
	return h, nil
}

func (db *DB) unread(ctx context.Context, p *participant) (int, error) {
	newest := db.page(p.Conversation, store.Page{After: max(p.ReadSeq, p.Joined), Newest: true, Limit: countedMessages})
	cursor, err := newest.of.Aggregate(ctx, []bson.D{
		doc(field("$match", newest.filter)),
		doc(field("$sort", newest.sort)),
		doc(field("$limit", int64(newest.limit))),
		doc(field("$match", doc(field("from", doc(field("$ne", p.User))), field("recalled", doc(field("$ne", true)))))),
		doc(field("$limit", int64(maxUnread))),
		doc(field("$count", "unread")),
	})
	if err != nil {
		return 0, err
	}
	var counts []struct {
		Unread int64 `bson:"unread"`
	}
	if err := cursor.All(ctx, &counts); err != nil || len(counts) == 0 {
		return 0, err
	}
	return int(min(counts[0].Unread, math.MaxInt32)), nil
}
