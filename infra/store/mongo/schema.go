package mongo

import (
	"context"
	"fmt"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// message is a document of messages. A field that a message does not have at first is absent until it has it, because with
// 10^10 messages every field counts.
type message struct {
	ID           string `bson:"_id"`
	Conversation string `bson:"conversation"`
	Seq          int64  `bson:"seq"`
	ClientID     string `bson:"client_id"`
	From         int64  `bson:"from"`
	Type         int32  `bson:"type"`
	Timestamp    int64  `bson:"at"`
	Content      string `bson:"content"`
	Recalled     bool   `bson:"recalled,omitempty"`
	EditedAt     int64  `bson:"edited_at,omitempty"`
	ChangeSeq    int64  `bson:"change_seq,omitempty"` // of the latest edit

	Extra string `bson:"extra,omitempty"` // a JSON object
	// A message that was recalled keeps these for the sake of its versions.
	ReplyTo  string  `bson:"reply_to,omitempty"`
	Mentions []int64 `bson:"mentions,omitempty"`
}

// change is a document of changes: an event of a conversation that is neither a message nor a read mark.
type change struct {
	Conversation string `bson:"conversation"`
	Seq          int64  `bson:"seq"`
	Partition    int32  `bson:"partition"`
	MessageID    string `bson:"message_id,omitempty"` // of an edit or a recall
	EventID      string `bson:"event_id"`             // tells a repeat of the event
	Event        string `bson:"event"`                // as JSON, without content
}

// version is a document of versions: what a message of a group was between two positions, before an edit or a recall. It is
// kept for users who left meanwhile.
type version struct {
	ID           string `bson:"_id"`
	Conversation string `bson:"conversation"`
	MessageID    string `bson:"message_id"`
	Since        int64  `bson:"since"` // the position of the edit that made it so; 0: it was sent so
	Until        int64  `bson:"until"` // the position of the edit or recall that ended it
	EditedAt     int64  `bson:"edited_at"`
	Content      string `bson:"content"`
	Extra        string `bson:"extra,omitempty"`
}

// conversation is a document of conversations, including those of groups.
type conversation struct {
	Name      string `bson:"_id"`
	Partition int32  `bson:"partition"`
	LastSeq   int64  `bson:"last_seq"`  // of the latest message or change
	ActiveAt  int64  `bson:"active_at"` // Unix seconds of the latest message or change of membership

	GroupName string `bson:"name,omitempty"`
	Owner     int64  `bson:"owner,omitempty"`     // who has created the group
	Open      bool   `bson:"open,omitempty"`      // anybody may join
	Created   int64  `bson:"created,omitempty"`   // the position of the group's creation; absent: there is no such group
	Renamed   int64  `bson:"renamed,omitempty"`   // the position at which it got its name, if not by its creation
	Dissolved int64  `bson:"dissolved,omitempty"` // the position at which it was dissolved

	Grants []grant            `bson:"grants,omitempty"` // after the owner's, ascending; 16 MB hold 300,000 of them
	Mutes  map[string]setting `bson:"mutes,omitempty"`  // until when users are muted; "0": all but the owner and the admins
}

// participant is a document of participants: a user in a direct conversation, or in a group to which it belongs or has
// belonged. One document has all stays of a user in a group, so that each change of membership is one atomic update; 16 MB
// hold 300,000 stays.
type participant struct {
	ID           string `bson:"_id"`
	User         int64  `bson:"user"`
	Conversation string `bson:"conversation"`
	Partition    int32  `bson:"partition"`
	ReadSeq      int64  `bson:"read_seq"`
	Joined       int64  `bson:"joined"` // the position at which the current stay in a group began; 0: there is none
	Changed      int64  `bson:"changed"`
	Past         []stay `bson:"past,omitempty"`

	// What the user has set, by name; absent: never changed.
	Settings map[string]setting `bson:"settings,omitempty"`
}

// setting is the value of a setting and the position of its latest change.
type setting struct {
	Value int64 `bson:"value"`
	Seq   int64 `bson:"seq"`
}

// stay is a stay in a group that has ended.
type stay struct {
	Joined  int64 `bson:"joined"`
	Left    int64 `bson:"left"`
	Removed bool  `bson:"removed,omitempty"` // somebody else has ended it
}

// groupID is a document of group_ids: the id that was drawn first for a group that a user creates with a client_msg_id.
type groupID struct {
	Key   string `bson:"_id"`
	Group int64  `bson:"group"`
}

// user is a document of users: the latest user_online or user_offline of a user.
type user struct {
	ID        int64 `bson:"_id"`
	Partition int32 `bson:"partition"`
	Seq       int64 `bson:"seq"`
	Online    bool  `bson:"online"`
	SeenAt    int64 `bson:"seen_at"` // Unix seconds
}

// block is a document of blocks: the latest user_blocked or user_unblocked of a pair.
type block struct {
	ID      string `bson:"_id"`
	By      int64  `bson:"by"`
	User    int64  `bson:"user"`
	Seq     int64  `bson:"seq"`
	Blocked bool   `bson:"blocked"`
}

func participantID(user int64, conversation string) string {
	return strconv.FormatInt(user, 10) + " " + conversation
}

// createIndexes creates the missing indexes. A page of history, or of changes, is one range of (conversation, seq), whose
// index also refuses two messages at one position. Everything that a user has is one range of its participants.
func (db *DB) createIndexes(ctx context.Context) error {
	bucket := bson.D{{Key: "series", Value: 1}, {Key: "span", Value: 1}, {Key: "start", Value: 1}}
	place := bson.D{{Key: "conversation", Value: 1}, {Key: "seq", Value: 1}}
	for _, index := range []struct {
		of     *driver.Collection
		keys   bson.D
		unique bool
	}{
		{db.messages, place, true},
		{db.changes, place, true},
		{db.changes, bson.D{{Key: "conversation", Value: 1}, {Key: "event_id", Value: 1}}, false},
		{db.versions, bson.D{{Key: "conversation", Value: 1}, {Key: "message_id", Value: 1}, {Key: "until", Value: 1}}, false},
		{db.participants, bson.D{{Key: "user", Value: 1}, {Key: "joined", Value: 1}}, false},
		{db.participants, bson.D{{Key: "conversation", Value: 1}, {Key: "joined", Value: 1}}, false},
		{db.users, bson.D{{Key: "partition", Value: 1}, {Key: "online", Value: 1}}, false},
		{db.blocks, bson.D{{Key: "by", Value: 1}, {Key: "user", Value: 1}}, false},
		{db.tallies, bucket, false},
		{db.progress, bson.D{{Key: "handler", Value: 1}}, false},
		{db.activeUsers, bucket, false},
		{db.subscriptions, bson.D{{Key: "user", Value: 1}, {Key: "since", Value: 1}}, false},
		{db.erasures, bson.D{{Key: "user", Value: 1}}, false},
		{db.notifications, bson.D{{Key: "due", Value: 1}, {Key: "at", Value: 1}}, false},
	} {
		model := driver.IndexModel{Keys: index.keys}
		if index.unique {
			model.Options = options.Index().SetUnique(true)
		}
		if _, err := index.of.Indexes().CreateOne(ctx, model); err != nil {
			return fmt.Errorf("create index of %s: %w", index.of.Name(), err)
		}
	}
	return nil
}
