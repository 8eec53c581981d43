package mongo

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"

	"millrace/events"
	"millrace/infra/store"
)

// grant is a role that a user was given in a group.
type grant struct {
	Seq  int64       `bson:"seq"`
	User int64       `bson:"user"`
	Role events.Role `bson:"role"`
}

// grant adds the grants that the change makes. All of them are one update, which has no effect if it was done before.
func (b *batch) grant(ctx context.Context, before store.Grants, r *events.Record) error {
	var made []grant
	for _, g := range before.Made(r) {
		made = append(made, grant(g))
	}
	if made == nil {
		return nil
	}
	without := doc(field("_id", r.Conversation), field("grants.seq", doc(field("$ne", r.Seq))))
	_, err := b.conversations.UpdateOne(ctx, without, bson.D{field("$push", doc(field("grants", doc(field("$each", made)))))})
	return err
}

// mute has no effect if a later one came before.
func (b *batch) mute(ctx context.Context, r *events.Record) error {
	name := "mutes." + strconv.FormatInt(r.User, 10)
	older := doc(field("_id", r.Conversation), field(name+".seq", doc(field("$not", doc(field("$gte", r.Seq))))))
	_, err := b.conversations.UpdateOne(ctx, older, set(field(name, setting{*r.Until, r.Seq})))
	return err
}

// group returns the group of the conversation, which has no grants if there is none.
func (c *conversation) group(id int64) store.Group {
	g := store.Group{ID: id, Name: c.GroupName, Open: c.Open, Dissolved: c.Dissolved}
	if c.Owner != 0 {
		g.Grants = store.Founded(c.Owner)
	}
	for _, made := range c.Grants {
		g.Grants = append(g.Grants, store.Grant(made))
	}
	slices.SortStableFunc(g.Grants, func(a, b store.Grant) int { return cmp.Compare(a.Seq, b.Seq) })
	for name, mute := range c.Mutes {
		if user, err := strconv.ParseInt(name, 10, 64); err == nil && mute.Value > 0 {
			if g.Mutes == nil {
				g.Mutes = make(map[int64]int64)
			}
			g.Mutes[user] = mute.Value
		}
	}
	return g
}

// standing returns what the user is in the group of the conversation.
func (b *batch) standing(ctx context.Context, user int64, name string) (store.Standing, error) {
	c, _, err := findOne[conversation](ctx, b.conversationByName(name))
	if err != nil {
		return store.Standing{}, err
	}
	p, err := b.member(ctx, user, name)
	return store.Standing{User: user, Grants: c.group(0).Grants, Stays: p.memberships()}, err
}
