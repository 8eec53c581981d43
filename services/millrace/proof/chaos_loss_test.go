package proof

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
)

// What the processes log when the log has lost something.
const (
	toldAnew = "the topic was deleted and made anew"
	toldCut  = "the log is shorter than it was"
)

// lose inflicts a loss on the log or the store. Of a loss of the log somebody has to tell.
func (c *chaos) lose(ctx context.Context, f fault) error {
	c.losing.Lock() // a backup of before another loss would not have what only the store still had
	defer c.losing.Unlock()
	switch f.Harm {
	case topicLost:
		return c.inSilence(ctx, toldAnew, c.deleteTopic)
	case logCut:
		return c.inSilence(ctx, toldCut, func(ctx context.Context) error { return c.cutLog(ctx, f.seed) })
	}
	return c.putStoreBack(ctx, f.For)
}

// inSilence inflicts the loss while nobody speaks and everything is stored and shown, so that nothing may be lost but what other
// handlers have not read yet.
func (c *chaos) inSilence(ctx context.Context, told string, loss func(context.Context) error) error {
	speak, err := c.crowd.hush(ctx, func() string { return c.cluster.unfinished(ctx) })
	if err != nil {
		return err
	}
	defer speak()
	release := c.hold(mongoServer) // it answers then
	err = c.figures.excuse(ctx)
	release()
	if err != nil {
		return fmt.Errorf("before a loss: %w", err)
	}
	for _, k := range c.crowd.Talkers {
		k.doubt()
	}
	before := c.count(told)
	if err := loss(ctx); err != nil {
		return err
	}
	return c.awaitTold(ctx, told, before)
}

func (c *chaos) deleteTopic(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.cluster.log...))
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		_, err := kadm.NewClient(client).DeleteTopic(ctx, events.TopicMessages)
		if err == nil || errors.Is(err, kerr.UnknownTopicOrPartition) || ctx.Err() != nil {
			return err
		}
		Wait(ctx, sendEvery)
	}
}

// cutLog takes bytes from the end of some partitions' files while the broker is down, as a power cut may.
func (c *chaos) cutLog(ctx context.Context, seed uint64) error {
	broker := c.cluster.processes[0]
	release := c.hold(broker.name)
	defer release()
	broker.kill()
	files, err := c.logFiles()
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, 2))
	for i, file := range files {
		if i > 0 && random.IntN(2) == 0 {
			continue
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if err := os.Truncate(file, max(0, info.Size()-1-random.Int64N(8000))); err != nil {
			return err
		}
	}
	return broker.run(ctx)
}

// logFiles returns the files of those partitions of message-events that have records.
func (c *chaos) logFiles() (files []string, err error) {
	return files, filepath.WalkDir(c.cluster.dataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		of, ext := filepath.Base(filepath.Dir(path)), filepath.Ext(path)
		if !strings.HasPrefix(of, events.TopicMessages+"-") || strings.HasSuffix(of, "-delete") || ext != ".dat" && ext != ".log" {
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	})
}

// putStoreBack makes a backup of the store, and puts it back after the duration, while clients go on sending. The log has
// everything, so nothing may be lost. Nobody need tell of it, because nobody can if the group had committed no more than the
// backup has.
func (c *chaos) putStoreBack(ctx context.Context, d time.Duration) error {
	store := c.cluster.store()
	backup := store + ".backup"
	defer func() { _ = os.Remove(backup) }()
	if err := vacuumInto(ctx, store, backup); err != nil {
		return err
	}
	Wait(ctx, d)
	return c.exchange(ctx, store, backup)
}

// exchange kills all processes that have the store open, puts the backup in its place, and starts them again.
func (c *chaos) exchange(ctx context.Context, store, backup string) error {
	names := []string{"message-1", "message-2", "storage-1", "storage-2", "worker", "analytics", "webhook", "moderation", "route", "notify"}
	all := append([]string{newcomer, recounting}, names...)
	release := c.hold(all...)
	defer release()
	c.dispute.putBack.Add(1)
	c.figures.told.stores.Add(1)
	for _, name := range all {
		c.cluster.named(name).kill()
	}
	for _, file := range []string{store + "-wal", store + "-shm", store} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(backup, store); err != nil {
		return err
	}
	c.figures.told.stores.Add(1)
	for _, name := range names {
		if err := c.cluster.named(name).run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// vacuumInto makes a backup of a database that may be in use.
func vacuumInto(ctx context.Context, store, backup string) error {
	db, err := sql.Open("sqlite", "file:"+store+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", backup)
	return errors.Join(err, db.Close())
}

// hold waits until no other fault concerns the processes, and keeps others away until the function that it returns is called.
func (c *chaos) hold(names ...string) (release func()) {
	var held []*process
	for _, p := range c.cluster.processes { // always in the same order, so that two holders never wait for each other
		if slices.Contains(names, p.name) {
			p.harmed.Lock()
			held = append(held, p)
		}
	}
	return func() {
		for _, p := range held {
			p.harmed.Unlock()
		}
	}
}

// count returns how often the processes have logged the text.
func (c *chaos) count(text string) (n int) {
	for _, p := range c.cluster.processes {
		logged, _ := p.logged(text) // one that was never started has no log
		n += logged
	}
	return n
}

func (c *chaos) awaitTold(ctx context.Context, text string, before int) error {
	for begin := time.Now(); time.Since(begin) < Healing; Wait(ctx, 10*time.Millisecond) {
		if c.count(text) > before {
			return nil
		}
	}
	return fmt.Errorf("nobody has told within %s: %s", Healing, text)
}
