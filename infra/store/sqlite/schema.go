package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// migrations returns the steps that make the schema. The first creates a file of version 1; each later one takes a file of
// the version before to the next. A file keeps its version as its user_version. A step that was released must never be
// changed.
func migrations() []string {
	return []string{
		firstSchema, groupsByClientMsgID, changesByEventID, messageVersions, epochsOfTopics, extraOfMessages, renamedGroups, disabledWebhooks,
		settingsOfUsers, usersSeen, statistics, subscriptionsOfUsers, rolesAndMutes, blockedUsers,
		notificationsOfUsers, revokedTokens, progressOfHandlers, erasuresOfUsers, idsInAnIndex,
	}
}

// Columns of the type ANY hold ids in the form of [idValue].
const firstSchema = `
CREATE TABLE conversations (
	id        INTEGER PRIMARY KEY,
	name      TEXT NOT NULL UNIQUE,
	partition INTEGER NOT NULL,
	last_seq  INTEGER NOT NULL, -- of the latest message or change
	active_at INTEGER NOT NULL  -- Unix seconds of the latest message or change of membership
) STRICT;

CREATE TABLE messages (
	conversation_id INTEGER NOT NULL,
	seq             INTEGER NOT NULL,
	id              ANY NOT NULL,
	client_id       ANY NOT NULL,
	sender          INTEGER NOT NULL,
	type            INTEGER NOT NULL,
	sent_at         INTEGER NOT NULL,
	recalled        INTEGER NOT NULL,
	edited_at       INTEGER NOT NULL,
	change_seq      INTEGER NOT NULL, -- of the latest edit; 0: none
	content         TEXT NOT NULL,    -- last, so that counting does not read it
	PRIMARY KEY (conversation_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE message_ids (
	id              ANY NOT NULL PRIMARY KEY,
	conversation_id INTEGER NOT NULL,
	seq             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What happened in a conversation other than messages.
CREATE TABLE changes (
	conversation_id INTEGER NOT NULL,
	seq             INTEGER NOT NULL,
	type            TEXT NOT NULL,
	message_id      ANY,           -- of an edit or a recall
	event           TEXT NOT NULL, -- as JSON, without content
	PRIMARY KEY (conversation_id, seq)
) STRICT, WITHOUT ROWID;

-- Direct conversations and the groups that the user ever was in.
CREATE TABLE user_conversations (
	user            INTEGER NOT NULL,
	conversation_id INTEGER NOT NULL,
	read_seq        INTEGER NOT NULL,
	PRIMARY KEY (user, conversation_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE groups (
	conversation_id INTEGER PRIMARY KEY,
	name            TEXT NOT NULL,
	owner           INTEGER NOT NULL,
	dissolved_seq   INTEGER NOT NULL -- 0: it exists
) STRICT;

CREATE TABLE stays (
	user            INTEGER NOT NULL,
	conversation_id INTEGER NOT NULL,
	joined_seq      INTEGER NOT NULL,
	left_seq        INTEGER NOT NULL, -- 0: still a member
	PRIMARY KEY (user, conversation_id, joined_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX members ON stays (conversation_id, user) WHERE left_seq = 0;

-- Per partition, up to where everything is stored.
CREATE TABLE positions (
	partition INTEGER PRIMARY KEY,
	seq       INTEGER NOT NULL
) STRICT;

CREATE TABLE topics (
	name  TEXT PRIMARY KEY,
	id    TEXT NOT NULL,
	epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`

const groupsByClientMsgID = `
-- Which group a user creates with a client_msg_id: the first id that was drawn for it.
CREATE TABLE group_ids (
	owner     INTEGER NOT NULL,
	client_id ANY NOT NULL,
	group_id  INTEGER NOT NULL,
	PRIMARY KEY (owner, client_id)
) STRICT, WITHOUT ROWID;
ALTER TABLE groups ADD COLUMN open INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stays ADD COLUMN removed INTEGER NOT NULL DEFAULT 0; -- ended by somebody else
`

// changesByEventID finds the change that an event has made, in order to recognise a repeat of the event.
const changesByEventID = `CREATE INDEX change_ids ON changes (conversation_id, json_extract(event, '$.event_id'));`

const messageVersions = `
-- How a message of a group was between two positions, before it was edited or recalled, for those who left meanwhile.
CREATE TABLE versions (
	message_id ANY NOT NULL,
	since_seq  INTEGER NOT NULL, -- of the edit that made it so; 0: it was sent so
	until_seq  INTEGER NOT NULL, -- of the edit or recall that ended it
	edited_at  INTEGER NOT NULL,
	content    TEXT NOT NULL,
	PRIMARY KEY (message_id, until_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX past_stays ON stays (conversation_id, left_seq) WHERE left_seq > 0;
`

// idsInAnIndex has SQLite keep the ids of messages itself, so that saving a message takes one statement. The index holds what the
// table did.
const idsInAnIndex = `DROP TABLE message_ids; CREATE UNIQUE INDEX message_ids ON messages (id);`

// epochsOfTopics stores the later epochs of a topic beside the one in which it begins.
const epochsOfTopics = `
ALTER TABLE topics ADD COLUMN cuts TEXT NOT NULL DEFAULT 'null'; -- as JSON
ALTER TABLE topics ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE topics ADD COLUMN changed INTEGER NOT NULL DEFAULT 0; -- Unix milliseconds
`

const extraOfMessages = `
-- What only some messages have. A message that was recalled keeps reply_to and mentions for the sake of its versions.
ALTER TABLE messages ADD COLUMN extra TEXT;    -- a JSON object
ALTER TABLE messages ADD COLUMN reply_to ANY;  -- the id of a message
ALTER TABLE messages ADD COLUMN mentions TEXT; -- users, as JSON
ALTER TABLE versions ADD COLUMN extra TEXT;
`

// renamedGroups notes when a group got its name, so that an older renaming which comes later has no effect.
const renamedGroups = `ALTER TABLE groups ADD COLUMN renamed_seq INTEGER NOT NULL DEFAULT 0;`

// disabledWebhooks holds the webhooks that get no events until an operator enables them.
const disabledWebhooks = `
CREATE TABLE disabled_webhooks (
	name  TEXT PRIMARY KEY,
	url   TEXT NOT NULL,
	since INTEGER NOT NULL -- Unix seconds
) STRICT, WITHOUT ROWID;
`

const settingsOfUsers = `
-- What users have set for conversations: one row for each setting that was ever changed.
CREATE TABLE settings (
	user            INTEGER NOT NULL,
	conversation_id INTEGER NOT NULL,
	name            TEXT NOT NULL, -- muted_until, pinned or hidden
	value           INTEGER NOT NULL,
	seq             INTEGER NOT NULL, -- of the latest change
	PRIMARY KEY (user, conversation_id, name)
) STRICT, WITHOUT ROWID;
`

const usersSeen = `
-- The latest user_online or user_offline of each user.
CREATE TABLE users (
	id        INTEGER PRIMARY KEY,
	partition INTEGER NOT NULL,
	seq       INTEGER NOT NULL,
	online    INTEGER NOT NULL,
	seen_at   INTEGER NOT NULL -- Unix seconds
) STRICT;
CREATE INDEX users_online ON users (partition) WHERE online;
`

const revokedTokens = `
CREATE TABLE revoked_tokens (
	user          INTEGER PRIMARY KEY,
	issued_before INTEGER NOT NULL -- Unix seconds
) STRICT;
`

// statistics holds what was counted, by series: one for each version of the handler that counts.
const statistics = `
-- Per partition, up to where messages were counted, and the positions of replays that were.
CREATE TABLE counted (
	series    TEXT NOT NULL,
	partition INTEGER NOT NULL,
	seq       INTEGER NOT NULL,
	PRIMARY KEY (series, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE counted_replays (
	series    TEXT NOT NULL,
	partition INTEGER NOT NULL,
	seq       INTEGER NOT NULL,
	PRIMARY KEY (series, partition, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE buckets (
	series    TEXT NOT NULL,
	span      INTEGER NOT NULL, -- seconds
	start     INTEGER NOT NULL, -- Unix seconds
	messages  INTEGER NOT NULL,
	within_2  INTEGER NOT NULL, -- of these, counted within so many seconds
	within_5  INTEGER NOT NULL,
	within_60 INTEGER NOT NULL,
	PRIMARY KEY (series, span, start)
) STRICT, WITHOUT ROWID;
CREATE TABLE busy_conversations (
	series       TEXT NOT NULL,
	span         INTEGER NOT NULL,
	start        INTEGER NOT NULL,
	conversation TEXT NOT NULL,
	messages     INTEGER NOT NULL,
	PRIMARY KEY (series, span, start, conversation)
) STRICT, WITHOUT ROWID;
CREATE TABLE active_users (
	series TEXT NOT NULL,
	span   INTEGER NOT NULL,
	start  INTEGER NOT NULL,
	user   INTEGER NOT NULL,
	PRIMARY KEY (series, span, start, user)
) STRICT, WITHOUT ROWID;
`

const subscriptionsOfUsers = `
-- The browsers that get users' notifications by Web Push.
CREATE TABLE subscriptions (
	endpoint TEXT PRIMARY KEY,
	user     INTEGER NOT NULL,
	p256dh   TEXT NOT NULL,
	auth     TEXT NOT NULL,
	since    INTEGER NOT NULL -- Unix nanoseconds
) STRICT, WITHOUT ROWID;
CREATE INDEX user_subscriptions ON subscriptions (user, since);
`

const rolesAndMutes = `
-- Which roles users were given in a group, but for that of the founder, who is groups.owner.
CREATE TABLE grants (
	conversation_id INTEGER NOT NULL,
	seq             INTEGER NOT NULL,
	user            INTEGER NOT NULL,
	role            TEXT NOT NULL,
	PRIMARY KEY (conversation_id, seq, user)
) STRICT, WITHOUT ROWID;
-- Until when users are muted in a group, by the latest change; the user 0 is all but the owner and the admins.
CREATE TABLE mutes (
	conversation_id INTEGER NOT NULL,
	user            INTEGER NOT NULL,
	until           INTEGER NOT NULL, -- Unix seconds; 0: not any more
	seq             INTEGER NOT NULL,
	PRIMARY KEY (conversation_id, user)
) STRICT, WITHOUT ROWID;
`

const blockedUsers = `
-- The latest user_blocked or user_unblocked of each pair.
CREATE TABLE blocks (
	blocker INTEGER NOT NULL,
	user    INTEGER NOT NULL,
	seq     INTEGER NOT NULL,
	blocked INTEGER NOT NULL,
	PRIMARY KEY (blocker, user)
) STRICT, WITHOUT ROWID;
`

// writerDSN lets the write-ahead log grow to 40 MB before SQLite copies it into the file. So SQLite writes a page once for
// many inserts into it: a quarter more messages a second than with its default of 4 MB. After a crash SQLite reads the log,
// which takes about 20 ms. Its cache of 32 MB holds the index of some 700,000 message ids, whose pages SQLite would else read
// again for each batch, because ids come in random order: a tenth more messages a second at 300,000 messages, more with more.
// What is deleted or overwritten SQLite fills with zeros, so that no content that was recalled or erased stays in the file:
// without measurable cost.
func writerDSN(path string) string {
	return dsn(path, url.Values{
		"_synchronous": {"FULL"},
		"_pragma":      {"wal_autocheckpoint(10000)", "cache_size(-32000)", "secure_delete(1)"},
	})
}

func readerDSN(path string) string {
	return dsn(path, url.Values{"_query_only": {"1"}})
}

// dsn returns a URI, so that no character of the path is taken for an option.
func dsn(path string, options url.Values) string {
	options.Set("_busy_timeout", "5000")
	options.Set("_dqs", "0")
	file := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: options.Encode()}
	return file.String()
}

// initialize switches a new file to write-ahead logging and brings the tables to the newest version. If several processes
// start at once, one does it.
func initialize(ctx context.Context, writer *pool) error {
	if err := enableWAL(ctx, writer.db); err != nil {
		return fmt.Errorf("enable write-ahead logging: %w", err)
	}
	// It first looks without the lock, so that a store that is in use opens however busy its writers are.
	steps := migrations()
	var version int
	err := writer.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	if err == nil && version == len(steps) {
		return nil
	}
	return writer.within(ctx, func(ctx context.Context, c *conn) error {
		if _, err := c.get(ctx, "PRAGMA user_version", nil, &version); err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if version < 0 || version > len(steps) {
			return fmt.Errorf("the file has schema version %d, this program knows %d", version, len(steps))
		}
		for ; version < len(steps); version++ {
			if _, err := c.ExecContext(ctx, fmt.Sprintf("%s PRAGMA user_version = %d", steps[version], version+1)); err != nil {
				return fmt.Errorf("bring the tables to version %d: %w", version+1, err)
			}
		}
		return nil
	})
}

// enableWAL fails at once while other processes do the same, because SQLite does not wait for that lock.
func enableWAL(ctx context.Context, db *sql.DB) error {
	var mode string
	err := db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
	if err == nil && mode != "wal" {
		return fmt.Errorf("the file system leaves journal mode %q", mode)
	}
	return err
}

func busy(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}
