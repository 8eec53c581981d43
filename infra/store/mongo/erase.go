package mongo

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
	"millrace/infra/store"
)

// EraseIn empties, in a conversation and after the position, some of what the user's erasure covers: it looks at no more than
// [store.ErasedAtOnce] messages and as many changes. It returns how many messages it has emptied, and after which position to
// go on, or 0 once there is nothing left. It must begin after storage is done with what the log had when the erasure was
// saved. Where it breaks off it can be called again.
func (db *DB) EraseIn(ctx context.Context, user int64, conversation string, after int64) (messages int, next int64, err error) {
	messages, next, err = db.eraseIn(ctx, user, conversation, after)
	if err != nil {
		return 0, 0, fmt.Errorf("erase user %d in %s: %w", user, conversation, err)
	}
	return messages, next, nil
}

func (db *DB) eraseIn(ctx context.Context, user int64, name string, after int64) (messages int, next int64, err error) {
	c, found, err := findOne[conversation](ctx, db.conversationByName(name))
	if err != nil || !found {
		return 0, 0, err
	}
	erasures, err := db.erased(ctx, []int64{user})
	if err != nil {
		return 0, 0, err
	}
	last := erasures[user][c.Partition]
	if after >= last {
		return 0, 0, nil
	}
	page := store.Page{After: after, Before: last + 1, Limit: store.ErasedAtOnce}
	written, err := find[message](ctx, db.page(name, page))
	if err != nil {
		return 0, 0, err
	}
	through := last
	if len(written) == store.ErasedAtOnce {
		through = written[len(written)-1].Seq
	}
	changesPage := db.page(name, page)
	changesPage.of = db.changes
	changes, err := find[change](ctx, changesPage)
	if err != nil {
		return 0, 0, err
	}
	if len(changes) == store.ErasedAtOnce {
		through = min(through, changes[len(changes)-1].Seq)
	}
	for _, change := range changes {
		if err := db.eraseName(ctx, user, &c, change); err != nil {
			return 0, 0, err
		}
	}
	if messages, err = db.eraseMessages(ctx, user, name, written, after, through); err != nil {
		return 0, 0, err
	}
	if err := db.eraseSettings(ctx, user, name, last); err != nil {
		return 0, 0, err
	}
	if through < last {
		next = through
	}
	return messages, next, nil
}

// eraseMessages empties those of the messages, which are all after the one position, up to the other, that are the user's. They
// are recalled before their versions are deleted, so that no batch makes another one.
func (db *DB) eraseMessages(ctx context.Context, user int64, conversation string, messages []message, after, through int64) (int, error) {
	var ids []string
	emptied := 0
	for _, m := range messages {
		if m.From != user || m.Seq > through {
			continue
		}
		ids = append(ids, m.ID)
		if !m.Recalled || m.ReplyTo != "" || len(m.Mentions) > 0 {
			emptied++
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	section := db.page(conversation, store.Page{After: after, Before: through + 1})
	_, err := db.messages.UpdateMany(ctx, append(section.filter, field("from", user)), set(
		field("content", ""), field("extra", ""), field("reply_to", ""), field("mentions", []int64(nil)), field("recalled", true)))
	if err == nil {
		_, err = db.versions.DeleteMany(ctx, doc(field("conversation", conversation), field("message_id", doc(field("$in", ids)))))
	}
	return emptied, err
}

// eraseName removes the name from a change by which the user has named the group, and from the group if it has that name still.
func (db *DB) eraseName(ctx context.Context, user int64, c *conversation, of change) error {
	var e events.Event
	if err := json.Unmarshal([]byte(of.Event), &e); err != nil {
		return fmt.Errorf("change at %d: %w", of.Seq, err)
	}
	if e.By != user || e.Name == "" || e.Type != events.GroupCreated && e.Type != events.GroupRenamed {
		return nil
	}
	named := doc(field("_id", c.Name), field("renamed", of.Seq))
	if e.Type == events.GroupCreated {
		named = doc(field("_id", c.Name), field("renamed", doc(field("$exists", false))))
	}
	if _, err := db.conversations.UpdateOne(ctx, named, set(field("name", ""))); err != nil {
		return err
	}
	e.Name = ""
	data, err := json.Marshal(&e)
	if err != nil {
		return fmt.Errorf("encode change: %w", err)
	}
	_, err = db.changes.UpdateOne(ctx, doc(field("conversation", of.Conversation), field("seq", of.Seq)), set(field("event", string(data))))
	return err
}

// eraseSettings resets what the user has set for the conversation up to the position.
func (db *DB) eraseSettings(ctx context.Context, user int64, conversation string, through int64) error {
	p, found, err := findOne[participant](ctx, db.participantOf(user, conversation))
	if err != nil || !found {
		return err
	}
	var models []driver.WriteModel
	for name, s := range p.Settings {
		if s.Value != 0 && s.Seq <= through {
			name = "settings." + name
			models = append(models, update(doc(field("_id", p.ID), field("user", user), field(name+".seq", s.Seq)), set(field(name+".value", int64(0)))))
		}
	}
	return db.write(ctx, db.participants, models)
}

// EraseAccount drops the user's subscriptions and what it was to be told there, and, unless it is online, when it was seen.
func (db *DB) EraseAccount(ctx context.Context, user int64) error {
	if err := db.eraseAccount(ctx, user); err != nil {
		return fmt.Errorf("erase the account of user %d: %w", user, err)
	}
	return nil
}

func (db *DB) eraseAccount(ctx context.Context, user int64) error {
	// The id of a notification begins with the user and a space.
	id := strconv.FormatInt(user, 10)
	for _, drop := range []struct {
		of     *driver.Collection
		filter bson.D
	}{
		{db.subscriptions, doc(field("user", user))},
		{db.notifications, doc(field("_id", doc(field("$gte", id+" "), field("$lt", id+"!"))))},
		{db.users, doc(field("_id", user), field("online", false))},
	} {
		if _, err := drop.of.DeleteMany(ctx, drop.filter); err != nil {
			return err
		}
	}
	return nil
}
