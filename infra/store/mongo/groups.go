package mongo

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
	"millrace/infra/store"
)

// saveMemberships applies changes of groups one by one, because each depends on those before. The document of an event itself
// is written last. So an event that broke off is applied again, and one that was overtaken has no effect.
func (b *batch) saveMemberships(ctx context.Context) error {
	return b.each(func(i int, r *events.Record) error {
		effective, err := b.saveMembership(ctx, i, r)
		if err = classify(err); events.IsPermanent(err) {
			b.results[i] = err
			return nil
		}
		if effective {
			b.activate(r)
		}
		return err
	}, events.GroupCreated, events.MemberJoined, events.MemberLeft, events.GroupDissolved, events.GroupRenamed,
		events.MemberRole, events.MemberMuted)
}

func (b *batch) saveMembership(ctx context.Context, i int, r *events.Record) (effective bool, err error) {
	found, _, err := findOne[conversation](ctx, b.conversationByName(r.Conversation))
	if err != nil {
		return false, fmt.Errorf("find group: %w", err)
	}
	group := found.group(r.GroupID)
	if r.Type == events.GroupCreated {
		if err := group.CheckCreation(r); err != nil {
			return false, err
		}
		return b.createGroup(ctx, i, r, found)
	}
	by, err := b.member(ctx, r.By, r.Conversation)
	if err != nil {
		return false, err
	}
	of, err := b.member(ctx, r.User, r.Conversation)
	if err != nil {
		return false, err
	}
	effective, err = group.Decide(r, by.memberships(), of.memberships())
	if err != nil || !effective || group.Dissolved != 0 && group.Dissolved != r.Seq {
		return false, err
	}
	first, err := b.firstChanges(ctx, []int{i})
	if at, made := first[messageKey{r.Conversation, r.EventID}]; err != nil || made && at < r.Seq {
		return false, err
	}
	switch r.Type {
	case events.GroupDissolved:
		return true, b.dissolve(ctx, i, r)
	case events.GroupRenamed:
		err = b.rename(ctx, r)
	case events.MemberMuted:
		err = b.mute(ctx, r)
	case events.MemberJoined, events.MemberLeft:
		err = b.joinOrLeave(ctx, r, of)
	}
	if err == nil {
		err = b.grant(ctx, group.Grants, r)
	}
	if err != nil {
		return false, fmt.Errorf("change group: %w", err)
	}
	return true, b.keepChanges(ctx, []int{i})
}

func (b *batch) createGroup(ctx context.Context, i int, r *events.Record, group conversation) (effective bool, err error) {
	if group.Created != 0 {
		return group.Created == r.Seq, nil
	}
	members := make([]driver.WriteModel, len(r.Members))
	for at, user := range r.Members {
		members[at] = create(b.newParticipant(user, r.Conversation, r.Partition, r.Seq))
	}
	if err := exceptDuplicates(b.write(ctx, b.participants, members)); err != nil {
		return false, fmt.Errorf("add members: %w", err)
	}
	if err := b.keepChanges(ctx, []int{i}); err != nil {
		return false, err
	}
	if r.ClientMsgID != "" {
		// The id is reserved already, unless the store was lost and is built again from the log.
		if _, err := b.reserve(ctx, r.User, r.ClientMsgID, r.GroupID); err != nil {
			return false, fmt.Errorf("reserve group id: %w", err)
		}
	}
	unmade := doc(field("_id", r.Conversation), field("created", doc(field("$exists", false))))
	err = exceptDuplicates(b.write(ctx, b.conversations, []driver.WriteModel{b.createConversation(r.Conversation, r.Partition)}))
	if err == nil {
		_, err = b.conversations.UpdateOne(ctx, unmade, set(
			field("name", r.Name), field("owner", r.User), field("open", r.Join == events.JoinOpen), field("created", r.Seq)))
	}
	if err != nil {
		return false, fmt.Errorf("create group: %w", err)
	}
	return true, nil
}

// member returns the participant that the user is in the group, or one without any stay.
func (b *batch) member(ctx context.Context, user int64, group string) (participant, error) {
	p, _, err := findOne[participant](ctx, b.participantOf(user, group))
	if err != nil {
		return p, fmt.Errorf("find member: %w", err)
	}
	return p, nil
}

// joinOrLeave does nothing if the event has had its effect before.
func (b *batch) joinOrLeave(ctx context.Context, r *events.Record, p participant) error {
	if !store.Takes(r, p.memberships()) {
		return nil
	}
	var model *driver.UpdateOneModel
	switch {
	case p.Joined != 0:
		model = endStay(p, r.Seq, r.By != r.User)
	case p.ID != "":
		model = update(unchanged(p), set(field("joined", r.Seq), field("changed", r.Seq)))
	default:
		model = create(b.newParticipant(r.User, r.Conversation, r.Partition, r.Seq))
	}
	return b.write(ctx, b.participants, []driver.WriteModel{model})
}

// unchanged returns the filter for the participant as long as nobody has changed it since it was read.
func unchanged(p participant) bson.D {
	return doc(field("_id", p.ID), field("user", p.User), field("changed", p.Changed))
}

func endStay(p participant, seq int64, removed bool) *driver.UpdateOneModel {
	ended := stay{Joined: p.Joined, Left: max(p.Joined, seq), Removed: removed}
	return update(unchanged(p), append(set(field("joined", int64(0)), field("changed", seq)),
		field("$push", doc(field("past", ended)))))
}

func (b *batch) rename(ctx context.Context, r *events.Record) error {
	older := doc(field("_id", r.Conversation), field("renamed", doc(field("$not", doc(field("$gte", r.Seq))))))
	_, err := b.conversations.UpdateOne(ctx, older, set(field("name", r.Name), field("renamed", r.Seq)))
	return err
}

// dissolve ends every stay in the group.
func (b *batch) dissolve(ctx context.Context, i int, r *events.Record) error {
	members, err := find[participant](ctx, b.membersOf(r.Conversation))
	if err != nil {
		return fmt.Errorf("find members: %w", err)
	}
	var models []driver.WriteModel
	for _, p := range members {
		models = append(models, endStay(p, r.Seq, true))
	}
	if err := b.write(ctx, b.participants, models); err != nil {
		return fmt.Errorf("end stays: %w", err)
	}
	if err := b.keepChanges(ctx, []int{i}); err != nil {
		return err
	}
	if _, err := b.conversations.UpdateOne(ctx, doc(field("_id", r.Conversation)), set(field("dissolved", r.Seq))); err != nil {
		return fmt.Errorf("dissolve group: %w", err)
	}
	return nil
}

func (db *DB) conversationByName(name string) query {
	return query{of: db.conversations, filter: doc(field("_id", name))}
}

func (db *DB) participantOf(user int64, conversation string) query {
	return query{of: db.participants, filter: doc(field("_id", participantID(user, conversation)), field("user", user))}
}

func (db *DB) participantsOf(user int64) query {
	return query{of: db.participants, filter: doc(field("user", user))}
}

func (db *DB) membersOf(conversation string) query {
	return query{of: db.participants, filter: doc(field("conversation", conversation), field("joined", doc(field("$gt", int64(0)))))}
}

func (db *DB) membershipsOf(user int64) query {
	return query{of: db.participants, filter: doc(field("user", user), field("joined", doc(field("$gt", int64(0)))))}
}

func (db *DB) groupIDOf(key string) query {
	return query{of: db.groupIDs, filter: doc(field("_id", key))}
}

// Group returns the group, or [store.ErrNotFound].
func (db *DB) Group(ctx context.Context, groupID int64) (store.Group, error) {
	c, _, err := findOne[conversation](ctx, db.conversationByName(events.Group(groupID)))
	if err == nil && c.Created == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Group{}, fmt.Errorf("group %d: %w", groupID, err)
	}
	return c.group(groupID), nil
}

// Members returns the present members of the group in ascending order, or none if there is no such group.
func (db *DB) Members(ctx context.Context, groupID int64) ([]int64, error) {
	found, err := find[participant](ctx, db.membersOf(events.Group(groupID)))
	if err != nil {
		return nil, fmt.Errorf("members of group %d: %w", groupID, err)
	}
	var members []int64
	for _, p := range found {
		members = append(members, p.User)
	}
	slices.Sort(members)
	return members, nil
}

// ReserveGroup returns the id of the group that the owner creates with the client_msg_id. It is the drawn id, unless one was
// reserved for these two before.
func (db *DB) ReserveGroup(ctx context.Context, owner int64, clientMsgID string, drawn int64) (int64, error) {
	reserved, err := db.reserve(ctx, owner, clientMsgID, drawn)
	if err != nil {
		return 0, fmt.Errorf("reserve a group of user %d: %w", owner, err)
	}
	return reserved, nil
}

func (db *DB) reserve(ctx context.Context, owner int64, clientMsgID string, drawn int64) (int64, error) {
	first := groupID{Key: strconv.FormatInt(owner, 10) + " " + clientMsgID, Group: drawn}
	_, err := db.groupIDs.InsertOne(ctx, first)
	switch {
	case driver.IsDuplicateKeyError(err):
		first, _, err = findOne[groupID](ctx, db.groupIDOf(first.Key))
		return first.Group, err
	case err != nil:
		return 0, err
	}
	return drawn, nil
}

// Memberships returns the groups that the user is a member of now.
func (db *DB) Memberships(ctx context.Context, user int64) ([]store.Membership, error) {
	found, err := find[participant](ctx, db.membershipsOf(user))
	if err != nil {
		return nil, fmt.Errorf("memberships of user %d: %w", user, err)
	}
	var memberships []store.Membership
	for _, p := range found {
		parsed, err := events.ParseConversation(p.Conversation)
		if err != nil {
			return nil, fmt.Errorf("memberships of user %d: %w", user, err)
		}
		memberships = append(memberships, store.Membership{GroupID: parsed.GroupID, User: user, Joined: p.Joined})
	}
	return memberships, nil
}

// Stays returns every stay of the user in the group, past ones included, in their order.
func (db *DB) Stays(ctx context.Context, user, groupID int64) ([]store.Membership, error) {
	p, _, err := findOne[participant](ctx, db.participantOf(user, events.Group(groupID)))
	if err != nil {
		return nil, fmt.Errorf("stays of user %d in group %d: %w", user, groupID, err)
	}
	var stays []store.Membership
	for _, s := range p.memberships() {
		s.GroupID, s.User = groupID, user
		stays = append(stays, s)
	}
	return stays, nil
}

// memberships returns the participant's stays in the form that the rules take.
func (p *participant) memberships() []store.Membership {
	var all []store.Membership
	for _, s := range p.stays() {
		all = append(all, store.Membership{Joined: s.Joined, Left: s.Left, Removed: s.Removed})
	}
	return all
}

// stays returns the past stays and the current one, whose Left is 0.
func (p *participant) stays() []stay {
	if p.Joined == 0 {
		return p.Past
	}
	return append(slices.Clone(p.Past), stay{Joined: p.Joined})
}
