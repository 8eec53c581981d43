package sqlite

import (
	"context"
	"database/sql"

	"millrace/infra/store"
)

const (
	insertGrant = `INSERT INTO grants (conversation_id, seq, user, role) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`
	findGrants  = `SELECT seq, user, role FROM grants WHERE conversation_id = ? ORDER BY seq`
	muteMember  = `INSERT INTO mutes (conversation_id, user, until, seq) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET until = excluded.until, seq = excluded.seq WHERE excluded.seq > seq`
	findMutes = `SELECT user, until FROM mutes WHERE conversation_id = ? AND until > 0`
)

// grants returns the grants of a group, of which the founder's is in no row of its own.
func (c *conn) grants(ctx context.Context, conversation, founder int64) (store.Grants, error) {
	grants := store.Founded(founder)
	err := c.list(ctx, findGrants, []any{conversation}, func(rows *sql.Rows) error {
		var g store.Grant
		if err := rows.Scan(&g.Seq, &g.User, &g.Role); err != nil {
			return err
		}
		grants = append(grants, g)
		return nil
	})
	return grants, err
}

func (c *conn) mutes(ctx context.Context, conversation int64) (map[int64]int64, error) {
	var mutes map[int64]int64
	err := c.list(ctx, findMutes, []any{conversation}, func(rows *sql.Rows) error {
		var user, until int64
		if err := rows.Scan(&user, &until); err != nil {
			return err
		}
		if mutes == nil {
			mutes = make(map[int64]int64)
		}
		mutes[user] = until
		return nil
	})
	return mutes, err
}
