package mongo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"millrace/infra/store"
)

// notification is a document of notifications: what a user is to be told of a conversation, everywhere or at one target.
type notification struct {
	ID           string `bson:"_id"`
	User         int64  `bson:"user"`
	Conversation string `bson:"conversation"`
	Target       string `bson:"target"`
	MessageID    string `bson:"message_id"`
	Seq          int64  `bson:"seq"`
	From         int64  `bson:"from"`
	At           int64  `bson:"at"` // Unix seconds
	Count        int    `bson:"count"`
	Attempts     int    `bson:"attempts"`
	Due          int64  `bson:"due"` // Unix milliseconds; never while the count is 0
}

const never = math.MaxInt64

func notificationID(user int64, conversation, target string) string {
	return participantID(user, conversation) + " " + target
}

func documentOf(n *store.Notification) notification {
	return notification{
		ID: notificationID(n.User, n.Conversation, n.Target), User: n.User, Conversation: n.Conversation, Target: n.Target,
		MessageID: n.MessageID, Seq: n.Seq, From: n.From, At: n.At, Count: n.Count, Attempts: n.Attempts, Due: n.Due.UnixMilli(),
	}
}

// changeAttempts is how often a change is tried again because somebody else has changed the document meanwhile.
const changeAttempts = 5

var errOthersChange = errors.New("others change the same notifications")

// NoteMessages counts each message for the user, unless one of its position or a later one was counted before, or it was the
// last one that was. Each document is
// changed only if it is as it was read; what was changed meanwhile is read again.
func (db *DB) NoteMessages(ctx context.Context, notes []store.Note, due time.Time) error {
	of := make(map[string][]store.Note)
	for _, n := range notes {
		id := notificationID(n.User, n.Conversation, "")
		of[id] = append(of[id], n)
	}
	for range changeAttempts {
		done, err := db.tryNotes(ctx, of, due)
		if err != nil {
			return fmt.Errorf("note messages: %w", err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("note messages: %w", errOthersChange)
}

func (db *DB) tryNotes(ctx context.Context, of map[string][]store.Note, due time.Time) (done bool, err error) {
	if len(of) == 0 {
		return true, nil
	}
	found, err := find[notification](ctx, query{of: db.notifications, filter: doc(field("_id", doc(field("$in", slices.Sorted(maps.Keys(of))))))})
	if err != nil {
		return false, err
	}
	before := make(map[string]notification, len(found))
	for _, n := range found {
		before[n.ID] = n
	}
	var models []driver.WriteModel
	for id, notes := range of {
		was, exists := before[id]
		seq, messageID := was.Seq, was.MessageID
		notes = slices.DeleteFunc(slices.Clone(notes), func(n store.Note) bool {
			if n.Seq <= seq || n.MessageID == messageID {
				return true
			}
			seq, messageID = n.Seq, n.MessageID
			return false
		})
		if len(notes) == 0 {
			continue
		}
		last := notes[len(notes)-1]
		if !exists {
			d := documentOf(&store.Notification{Note: last, Count: len(notes), Due: due})
			models = append(models, driver.NewInsertOneModel().SetDocument(d))
			continue
		}
		now := []bson.E{
			field("message_id", last.MessageID), field("seq", last.Seq), field("from", last.From), field("at", max(was.At, last.At)),
		}
		idle := field("count", 0)
		if was.Count > 0 {
			idle = field("count", doc(field("$gt", 0)))
		} else {
			now = append(now, field("due", due.UnixMilli()))
		}
		models = append(models, update(doc(field("_id", id), field("seq", was.Seq), idle),
			append(set(now...), field("$inc", doc(field("count", len(notes)))))))
	}
	if len(models) == 0 {
		return true, nil
	}
	result, err := db.notifications.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	if err != nil && exceptDuplicates(err) != nil {
		return false, err
	}
	return err == nil && int(result.MatchedCount+result.InsertedCount) == len(models), nil
}

// TakeNotifications returns notifications that are due, the first one first, and keeps them from others until the time.
func (db *DB) TakeNotifications(ctx context.Context, now, until time.Time, limit int) (taken []store.Notification, err error) {
	due, err := find[notification](ctx, db.notificationsDue(now, limit))
	for _, d := range due {
		var result *driver.UpdateResult
		if err == nil {
			result, err = db.notifications.UpdateOne(ctx, doc(field("_id", d.ID), field("due", d.Due)), set(field("due", until.UnixMilli())))
		}
		if err != nil {
			break
		}
		if result.MatchedCount == 1 {
			taken = append(taken, store.Notification{
				Note:   store.Note{User: d.User, Conversation: d.Conversation, MessageID: d.MessageID, Seq: d.Seq, From: d.From, At: d.At},
				Target: d.Target, Count: d.Count, Attempts: d.Attempts, Due: time.UnixMilli(until.UnixMilli()),
			})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("take notifications: %w", err)
	}
	return taken, nil
}

func (db *DB) notificationsDue(now time.Time, limit int) query {
	return query{of: db.notifications, filter: doc(field("due", doc(field("$lte", now.UnixMilli())))), sort: bson.D{field("due", 1)}, limit: limit}
}

// SettleNotification notes that so many of the messages of a notification that was taken were told; with 0 its attempts are kept.
// What is left is due at the time. What is to be repeated at single targets is added to what they lack already, and written first: if the rest fails it is told
// again, and nothing is lost.
func (db *DB) SettleNotification(ctx context.Context, n store.Notification, told int, next time.Time, repeats []store.Notification) error {
	if err := db.settle(ctx, n, told, next, repeats); err != nil {
		return fmt.Errorf("settle a notification of user %d: %w", n.User, err)
	}
	return nil
}

func (db *DB) settle(ctx context.Context, n store.Notification, told int, next time.Time, repeats []store.Notification) error {
	for _, r := range repeats {
		if err := db.repeatLater(ctx, documentOf(&r)); err != nil {
			return err
		}
	}
	taken := doc(field("_id", notificationID(n.User, n.Conversation, n.Target)), field("due", n.Due.UnixMilli()))
	if told == 0 {
		_, err := db.notifications.UpdateOne(ctx, taken, set(field("due", next.UnixMilli()), field("attempts", n.Attempts)))
		return err
	}
	// Either all were told, or more have come meanwhile.
	all := append(slices.Clone(taken), field("count", told))
	if n.Target != "" {
		result, err := db.notifications.DeleteOne(ctx, all)
		if err != nil || result.DeletedCount > 0 {
			return err
		}
	} else {
		result, err := db.notifications.UpdateOne(ctx, all, set(field("count", 0), field("attempts", 0), field("due", int64(never))))
		if err != nil || result.MatchedCount > 0 {
			return err
		}
	}
	_, err := db.notifications.UpdateOne(ctx, taken,
		append(set(field("attempts", 0), field("due", next.UnixMilli())), field("$inc", doc(field("count", -told)))))
	return err
}

func (db *DB) repeatLater(ctx context.Context, d notification) error {
	for range changeAttempts {
		_, err := db.notifications.InsertOne(ctx, d)
		if !driver.IsDuplicateKeyError(err) {
			return err
		}
		result, err := db.notifications.UpdateOne(ctx, doc(field("_id", d.ID)), append(
			set(field("message_id", d.MessageID), field("seq", d.Seq), field("from", d.From), field("at", d.At)),
			field("$inc", doc(field("count", d.Count)))))
		if err != nil || result.MatchedCount > 0 {
			return err
		}
	}
	return errOthersChange
}

// DropNotifications forgets the messages before the time that were told.
func (db *DB) DropNotifications(ctx context.Context, before time.Time) error {
	_, err := db.notifications.DeleteMany(ctx, doc(field("due", int64(never)), field("at", doc(field("$lt", before.Unix())))))
	if err != nil {
		return fmt.Errorf("drop notifications: %w", err)
	}
	return nil
}
