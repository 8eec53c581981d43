package message

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"

	"millrace/events"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// createGroup draws the group's id, so that nobody can guess it. Before anything is in the log, the store reserves the first
// id that was drawn for the owner and the client_msg_id. A repeat of the call, on whatever node, goes on with that id.
func (s *Service) createGroup(ctx context.Context, r *millracev1.CreateGroupRequest) (*millracev1.Group, error) {
	owner := r.GetSender().GetUser()
	key, err := naming(r)
	if err != nil {
		return nil, err
	}
	members := append([]int64{owner}, r.GetMembers()...)
	slices.Sort(members)
	drawn := drawGroupID()
	e := &events.Event{
		Type: events.GroupCreated, Conversation: events.Group(drawn), GroupID: drawn, User: owner, By: owner,
		Name: r.GetName(), Members: slices.Compact(members), ClientMsgID: key,
	}
	if r.GetOpen() {
		e.Join = events.JoinOpen
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	// A store that was put back from a backup has lost the latest reservations. It gets them again with the groups in the log.
	if err := s.storedNow(ctx, ""); err != nil {
		return nil, err
	}
	id, err := s.store.ReserveGroup(ctx, owner, key, drawn)
	if err != nil {
		return nil, err
	}
	switch g, err := s.storedGroup(ctx, id); {
	case err == nil:
		return g, nil
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	e.GroupID, e.EventID = id, events.EventID(events.GroupCreated, strconv.FormatInt(id, 10))
	return s.changeGroup(ctx, r.GetSender(), e)
}

// drawGroupID returns a random id from 1 to 2^53-1.
func drawGroupID() int64 {
	for {
		var bits [8]byte
		_, _ = rand.Read(bits[:]) // it never fails
		if id := int64(binary.BigEndian.Uint64(bits[:]) >> 11); id != 0 {
			return id
		}
	}
}
