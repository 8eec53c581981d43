package pubsub

import "context"

// Kept returns up to which position the group has acknowledged and its handler's work is kept, by [SubscriberConfig].Progress. What
// the group has acknowledged counts alone if progress is nil or fails. So after a backup was put back, what the handler has yet
// to do again does not count as done.
func Kept(ctx context.Context, log Log, group string, progress func(context.Context) (map[int32]int64, error)) (map[int32]int64, error) {
	committed, err := log.Committed(ctx, group)
	if err != nil || progress == nil {
		return committed, err
	}
	kept, err := progress(ctx)
	if err != nil {
		return committed, nil //nolint:nilerr // others report what keeps the work if it is down
	}
	all := make(map[int32]int64, len(committed))
	for p := range committed {
		all[p] = kept[p]
	}
	for p, seq := range log.Current(all) {
		committed[p] = min(committed[p], seq)
	}
	return committed, nil
}
