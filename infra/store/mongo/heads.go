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
	// countedMessages bounds the work of counting: it is how many of the newest unread messages are looked at. The count is
	// too low only if more than half of them are the user's own or recalled.
	countedMessages = 2 * maxUnread
	// headsAtOnce bounds how many conversations of one list are completed at the same time.
	headsAtOnce = 8
)

// countedStays is in how many of a user's newest stays in a group messages are counted.
const countedStays = 100

// Heads returns at most limit of the user's direct conversations and groups, in the order of their places and after the place
// passed, and whether there are more.
func (db *DB) Heads(ctx context.Context, user int64, behind store.Place, limit int) ([]store.Head, bool, error) {
	heads, more, err := db.heads(ctx, user, behind, max(limit, 0))
	if err != nil {
		return nil, false, fmt.Errorf("conversations of user %d: %w", user, err)
	}
	return heads, more, nil
}

func (db *DB) heads(ctx context.Context, user int64, behind store.Place, limit int) ([]store.Head, bool, error) {
	participants, err := find[participant](ctx, db.participantsOf(user))
	if err != nil {
		return nil, false, err
	}
	listed := make(map[string]*participant, len(participants))
	names := make([]string, 0, len(participants))
	for i := range participants {
		p := &participants[i]
		parsed, err := events.ParseConversation(p.Conversation)
		if err != nil {
			return nil, false, err
		}
		if parsed.GroupID == 0 || p.Joined != 0 {
			listed[p.Conversation] = p
			names = append(names, p.Conversation)
		}
	}
	latest, err := find[conversation](ctx, db.latestOf(names, behind, limit+1))
	if err != nil {
		return nil, false, err
	}
	more := len(latest) > limit
	if more {
		latest = latest[:limit]
	}
	var heads []store.Head
	if len(latest) > 0 {
		heads = make([]store.Head, len(latest))
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(headsAtOnce)
	for i, c := range latest {
		group.Go(func() (err error) {
			heads[i], err = db.head(ctx, listed[c.Name])
			heads[i].ActiveAt = c.ActiveAt
			return err
		})
	}
	return heads, more, group.Wait()
}

// latestOf is the query that finds each conversation by its name, so that it sorts no others.
func (db *DB) latestOf(names []string, behind store.Place, limit int) query {
	filter := doc(field("_id", doc(field("$in", names))), field("last_seq", doc(field("$gt", int64(0)))))
	if behind != (store.Place{}) {
		filter = append(filter, field("$or", []bson.D{
			doc(field("active_at", doc(field("$lt", behind.ActiveAt)))),
			doc(field("active_at", behind.ActiveAt), field("_id", doc(field("$lt", behind.Conversation)))),
		}))
	}
	return query{of: db.conversations, filter: filter, sort: doc(field("active_at", -1), field("_id", -1)), limit: limit}
}

// head returns the conversation's head with the last message that the user may see and the number of unread ones.
func (db *DB) head(ctx context.Context, p *participant) (store.Head, error) {
	h := store.Head{Place: store.Place{Conversation: p.Conversation}, ReadSeq: p.ReadSeq}
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
	p.settings(&h)
	var err error
	if h.Unread, err = db.unread(ctx, p); err != nil {
		return h, fmt.Errorf("%s: %w", p.Conversation, err)
	}
	return h, nil
}

// unread counts the messages of others after the read mark, in all stays.
func (db *DB) unread(ctx context.Context, p *participant) (int, error) {
	within := doc(field("$gt", max(p.ReadSeq, p.Joined)))
	parts := []bson.D{doc(field("seq", within))}
	for i := len(p.Past) - 1; i >= 0 && p.Past[i].Left > p.ReadSeq && len(parts) < countedStays; i-- {
		s := p.Past[i]
		parts = append(parts, doc(field("seq", doc(field("$gt", max(p.ReadSeq, s.Joined)), field("$lte", s.Left)))))
	}
	newest := db.page(p.Conversation, store.Page{After: p.ReadSeq, Newest: true, Limit: countedMessages})
	cursor, err := newest.of.Aggregate(ctx, []bson.D{
		doc(field("$match", append(newest.filter, field("$or", parts)))),
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
