package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"millrace/events"
	"millrace/infra/store"
)

const (
	insertGroup   = `INSERT INTO groups (conversation_id, name, owner, open, dissolved_seq) VALUES (?, ?, ?, ?, 0)`
	findGroup     = `SELECT owner, open, dissolved_seq FROM groups WHERE conversation_id = ?`
	renameGroup   = `UPDATE groups SET name = ?2, renamed_seq = ?3 WHERE conversation_id = ?1 AND renamed_seq < ?3`
	dissolveGroup = `UPDATE groups SET dissolved_seq = ?2 WHERE conversation_id = ?1`
	insertStays   = `INSERT INTO stays (user, conversation_id, joined_seq, left_seq)
		SELECT value, ?2, ?3, 0 FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING`
	findStays = `SELECT joined_seq, left_seq, removed FROM stays WHERE user = ? AND conversation_id = ? ORDER BY joined_seq`
	endStay   = `UPDATE stays SET left_seq = ?3, removed = ?4
		WHERE user = ?1 AND conversation_id = ?2 AND left_seq = 0 AND joined_seq < ?3`
	endStays = `UPDATE stays SET left_seq = max(joined_seq, ?2), removed = 1 WHERE conversation_id = ?1 AND left_seq = 0`

	groupByName = `SELECT g.conversation_id, g.name, g.owner, g.open, g.dissolved_seq
		FROM conversations c JOIN groups g ON g.conversation_id = c.id WHERE c.name = ?`
	groupMembers = `SELECT user FROM stays WHERE conversation_id = (SELECT id FROM conversations WHERE name = ?) AND left_seq = 0
		ORDER BY user`
	currentStays = `SELECT c.name, s.joined_seq FROM stays s JOIN conversations c ON c.id = s.conversation_id
		WHERE s.user = ? AND s.left_seq = 0`
	staysInGroup = `SELECT joined_seq, left_seq, removed FROM stays
		WHERE user = ? AND conversation_id = (SELECT id FROM conversations WHERE name = ?) ORDER BY joined_seq`

	insertGroupID = `INSERT INTO group_ids (owner, client_id, group_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`
	findGroupID   = `SELECT group_id FROM group_ids WHERE owner = ? AND client_id = ?`
)

func (b *batch) saveGroup(ctx context.Context, r *events.Record) error {
	conversation, err := b.needConversation(ctx, r.Conversation, r.Partition)
	if err != nil {
		return err
	}
	group, err := b.group(ctx, conversation)
	if err == nil {
		err = group.CheckCreation(r)
	}
	if err != nil || group.Grants != nil {
		return err
	}
	if err := b.exec(ctx, insertGroup, conversation, r.Name, r.User, r.Join == events.JoinOpen); err != nil {
		return fmt.Errorf("insert group: %w", err)
	}
	if r.ClientMsgID != "" {
		// The id is reserved already, unless the store was lost and is built again from the log.
		if err := b.exec(ctx, insertGroupID, r.User, idValue(r.ClientMsgID), r.GroupID); err != nil {
			return fmt.Errorf("insert group id: %w", err)
		}
	}
	if err := b.join(ctx, r.Members, conversation, r.Seq); err != nil {
		return err
	}
	return b.keepMembership(ctx, r, conversation)
}

// saveMembership applies a change to a group that exists. A change that was overtaken has no effect, so that a redelivery
// never opens a stay again.
func (b *batch) saveMembership(ctx context.Context, r *events.Record) error {
	conversation, err := b.conversation(ctx, r.Conversation)
	if err != nil {
		return err
	}
	group, err := b.group(ctx, conversation)
	var by, of []store.Membership
	if err == nil {
		by, err = b.stays(ctx, r.By, conversation)
	}
	if err == nil {
		of, err = b.stays(ctx, r.User, conversation)
	}
	if err != nil {
		return err
	}
	effective, err := group.Decide(r, by, of)
	if err != nil || !effective || group.Dissolved != 0 {
		return err
	}
	if repeat, err := b.repeatsChange(ctx, r, conversation); err != nil || repeat {
		return err
	}
	switch r.Type {
	case events.GroupDissolved:
		err = b.dissolve(ctx, conversation, r.Seq)
	case events.GroupRenamed:
		err = b.exec(ctx, renameGroup, conversation, r.Name, r.Seq)
	case events.MemberMuted:
		err = b.exec(ctx, muteMember, conversation, r.User, *r.Until, r.Seq)
	case events.MemberLeft:
		err = b.exec(ctx, endStay, r.User, conversation, r.Seq, r.By != r.User)
	case events.MemberJoined:
		err = b.join(ctx, []int64{r.User}, conversation, r.Seq)
	}
	for _, grant := range group.Grants.Made(r) {
		if err == nil {
			err = b.exec(ctx, insertGrant, conversation, grant.Seq, grant.User, string(grant.Role))
		}
	}
	if err != nil {
		return fmt.Errorf("change group: %w", err)
	}
	return b.keepMembership(ctx, r, conversation)
}

// checkSender returns an error for a message to a group that its sender may not write to.
func (b *batch) checkSender(ctx context.Context, r *events.Record) error {
	conversation, err := b.conversation(ctx, r.Message.Conversation)
	if err != nil {
		return err
	}
	stays, err := b.stays(ctx, r.Message.From, conversation)
	exists := len(stays) > 0
	if err == nil && !exists {
		var group store.Group
		group, err = b.group(ctx, conversation)
		exists = group.Grants != nil
	}
	if err != nil {
		return err
	}
	return store.CheckSender(r, exists, stays)
}

// group returns what the rules need of a group. It has no grants if there is no such group.
func (b *batch) group(ctx context.Context, conversation int64) (g store.Group, err error) {
	var founder int64
	found, err := b.get(ctx, findGroup, []any{conversation}, &founder, &g.Open, &g.Dissolved)
	if err == nil && found {
		g.Grants, err = b.grants(ctx, conversation, founder)
	}
	if err != nil {
		return g, fmt.Errorf("find group: %w", err)
	}
	return g, nil
}

// member is a user in the conversation of a group.
type member struct{ user, conversation int64 }

// stays returns all stays of the user in the group. It reads them once in a batch, because one user often sends many
// messages.
func (b *batch) stays(ctx context.Context, user, conversation int64) ([]store.Membership, error) {
	key := member{user, conversation}
	if stays, ok := b.members[key]; ok {
		return stays, nil
	}
	var stays []store.Membership
	err := b.list(ctx, findStays, []any{user, conversation}, func(rows *sql.Rows) error {
		var s store.Membership
		if err := rows.Scan(&s.Joined, &s.Left, &s.Removed); err != nil {
			return err
		}
		stays = append(stays, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find stays: %w", err)
	}
	b.members[key] = stays
	return stays, nil
}

func (b *batch) standing(ctx context.Context, user, conversation int64) (store.Standing, error) {
	group, err := b.group(ctx, conversation)
	if err != nil {
		return store.Standing{}, err
	}
	stays, err := b.stays(ctx, user, conversation)
	return store.Standing{User: user, Grants: group.Grants, Stays: stays}, err
}

// join opens stays of the users, all of them with one statement: a group may have ten thousand members.
func (b *batch) join(ctx context.Context, users []int64, conversation, seq int64) error {
	list, err := json.Marshal(users)
	if err != nil {
		return fmt.Errorf("list of members: %w", err)
	}
	if err := b.exec(ctx, insertStays, string(list), conversation, seq); err != nil {
		return fmt.Errorf("insert stays: %w", err)
	}
	if err := b.exec(ctx, insertParticipants, string(list), conversation); err != nil {
		return fmt.Errorf("add users to conversation: %w", err)
	}
	return nil
}

func (b *batch) dissolve(ctx context.Context, conversation, seq int64) error {
	if err := b.exec(ctx, endStays, conversation, seq); err != nil {
		return fmt.Errorf("end stays: %w", err)
	}
	if err := b.exec(ctx, dissolveGroup, conversation, seq); err != nil {
		return fmt.Errorf("dissolve group: %w", err)
	}
	return nil
}

func (b *batch) keepMembership(ctx context.Context, r *events.Record, conversation int64) error {
	clear(b.members)
	b.activate(conversation, r.Seq, r.Timestamp)
	return b.keepChange(ctx, r, conversation, nil)
}

// Group returns the group, or [store.ErrNotFound].
func (db *DB) Group(ctx context.Context, groupID int64) (store.Group, error) {
	group := store.Group{ID: groupID}
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		var conversation, founder int64
		found, err := c.get(ctx, groupByName, []any{events.Group(groupID)},
			&conversation, &group.Name, &founder, &group.Open, &group.Dissolved)
		if err == nil && !found {
			err = store.ErrNotFound
		}
		if err == nil {
			group.Grants, err = c.grants(ctx, conversation, founder)
		}
		if err == nil {
			group.Mutes, err = c.mutes(ctx, conversation)
		}
		return err
	})
	if err != nil {
		return store.Group{}, fmt.Errorf("group %d: %w", groupID, err)
	}
	return group, nil
}

// Members returns the present members of the group in ascending order, or none if there is no such group.
func (db *DB) Members(ctx context.Context, groupID int64) ([]int64, error) {
	members, err := column[int64](ctx, db.readers, groupMembers, events.Group(groupID))
	if err != nil {
		return nil, fmt.Errorf("members of group %d: %w", groupID, err)
	}
	return members, nil
}

// ReserveGroup returns the id of the group that the owner creates with the client_msg_id. It is the drawn id, unless one was
// reserved for these two before.
func (db *DB) ReserveGroup(ctx context.Context, owner int64, clientMsgID string, drawn int64) (int64, error) {
	var reserved int64
	key := []any{owner, idValue(clientMsgID)}
	find := func(ctx context.Context, c *conn) error {
		_, err := c.get(ctx, findGroupID, key, &reserved)
		return err
	}
	// A repeat is answered from a reading connection, without waiting for the writer.
	err := db.readers.within(ctx, find)
	if err == nil && reserved == 0 {
		err = db.writer.within(ctx, func(ctx context.Context, c *conn) error {
			if err := c.exec(ctx, insertGroupID, append(key, drawn)...); err != nil {
				return err
			}
			return find(ctx, c)
		})
	}
	if err != nil {
		return 0, fmt.Errorf("reserve a group of user %d: %w", owner, err)
	}
	return reserved, nil
}

// Memberships returns the groups that the user is a member of now.
func (db *DB) Memberships(ctx context.Context, user int64) ([]store.Membership, error) {
	var memberships []store.Membership
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, currentStays, []any{user}, func(rows *sql.Rows) error {
			var name string
			m := store.Membership{User: user}
			if err := rows.Scan(&name, &m.Joined); err != nil {
				return err
			}
			conversation, err := events.ParseConversation(name)
			if err != nil {
				return err
			}
			m.GroupID = conversation.GroupID
			memberships = append(memberships, m)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("memberships of user %d: %w", user, err)
	}
	return memberships, nil
}

// Stays returns every stay of the user in the group, past ones included, in their order.
func (db *DB) Stays(ctx context.Context, user, groupID int64) ([]store.Membership, error) {
	var stays []store.Membership
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, staysInGroup, []any{user, events.Group(groupID)}, func(rows *sql.Rows) error {
			m := store.Membership{GroupID: groupID, User: user}
			if err := rows.Scan(&m.Joined, &m.Left, &m.Removed); err != nil {
				return err
			}
			stays = append(stays, m)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("stays of user %d in group %d: %w", user, groupID, err)
	}
	return stays, nil
}
