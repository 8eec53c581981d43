package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"millrace/events"
)

// journal is the file. Batches of several partitions append side by side, and share the syncs.
type journal struct {
	path string
	lock *flock.Flock

	// syncing comes before mu where both are taken. The file is replaced under both.
	syncing sync.Mutex
	synced  int64 // of the bytes ever written, how many are known to be on the disk

	mu      sync.Mutex
	closed  bool
	file    *os.File    // nil while it cannot be used
	problem error       // why
	seen    os.FileInfo // the file that had the problem, nil if it could not be looked at
	size    int64       // of the whole lines in the file
	written int64       // bytes ever written, to all files there were
	known   known
}

// known is what the log has, of the files before the current one too: by partition the position of the last line in turn,
// and the places of those out of turn.
type known struct {
	highest  map[int32]int64
	replayed map[events.Position]bool
}

func (k *known) has(e *entry) bool {
	if e.Replayed {
		return k.replayed[e.position()]
	}
	return e.Seq <= k.highest[e.Partition]
}

func (k *known) add(e *entry) {
	if e.Replayed {
		k.replayed[e.position()] = true
	} else {
		k.highest[e.Partition] = max(k.highest[e.Partition], e.Seq)
	}
}

func (e *entry) position() events.Position {
	return events.Position{Partition: e.Partition, Seq: e.Seq}
}

func newJournal(path string) *journal {
	return &journal{
		path: path, lock: flock.New(path + ".lock"),
		known: known{highest: make(map[int32]int64), replayed: make(map[events.Position]bool)},
	}
}

// append writes the entries that the log does not have yet, by one write, and returns how many bytes must be on the disk
// for all of them to be there.
func (j *journal) append(entries []entry) (written int64, err error) {
	if err := j.current(); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return 0, j.problem
	}
	var lines bytes.Buffer
	var added []*entry
	batch := make(map[events.Position]bool, len(entries))
	for i := range entries {
		e := &entries[i]
		if j.known.has(e) || batch[e.position()] {
			continue
		}
		batch[e.position()] = true
		line, err := json.Marshal(e)
		if err != nil {
			return 0, fmt.Errorf("audit: %w", err)
		}
		lines.Write(append(line, '\n'))
		added = append(added, e)
	}
	if len(added) == 0 {
		return j.written, nil
	}
	// At the end of the whole lines: what a failed write has left there is written over.
	n, err := j.file.WriteAt(lines.Bytes(), j.size)
	if err != nil {
		return 0, err // names the operation and the file
	}
	j.size += int64(n)
	j.written += int64(n)
	for _, e := range added {
		j.known.add(e)
	}
	return j.written, nil
}

// sync brings the log to the disk as far as that; who waits meanwhile is served by the next sync together.
func (j *journal) sync(written int64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= written {
		return nil
	}
	j.mu.Lock()
	file, all := j.file, j.written
	j.mu.Unlock()
	if err := file.Sync(); err != nil {
		return err
	}
	j.synced = all
	return nil
}

// current sees to it that the open file is the one that the path names, and is as long as it was left. What logrotate has
// moved away or cut is noticed so, and so is a file with a problem that has been mended.
func (j *journal) current() error {
	if j.looksFine() {
		return nil
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.replace()
}

func (j *journal) looksFine() bool {
	info, err := os.Stat(j.path)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		// A file that has not changed since has the problem still, and reading it again is costly.
		return err == nil && j.seen != nil && os.SameFile(info, j.seen) && info.Size() == j.seen.Size() && info.ModTime().Equal(j.seen.ModTime())
	}
	mine, mineErr := j.file.Stat()
	return err == nil && mineErr == nil && os.SameFile(info, mine) && info.Size() >= j.size
}

// reopen goes on with whatever file the path names now, for what current cannot notice: a file that was mended in place.
func (j *journal) reopen() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.replace()
}

// replace closes the file, once all of it is on the disk, and opens the one that the path names now.
func (j *journal) replace() error {
	if j.file != nil {
		if err := j.file.Sync(); err != nil {
			return err
		}
		j.synced = j.written
		err := j.file.Close()
		j.file = nil
		if err != nil {
			return err
		}
	}
	j.seen = nil
	j.problem = j.open()
	return j.problem
}

// open takes the lock, once for all files of the path, and reads what is there, to go on behind it.
func (j *journal) open() error {
	if j.closed {
		return fmt.Errorf("audit: %s: %w", j.path, os.ErrClosed)
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if locked, err := j.lock.TryLock(); err != nil || !locked {
		return errors.Join(fmt.Errorf("audit: %s is in use by another process", j.path), err)
	}
	file, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	size, err := j.read(file)
	if err != nil {
		j.seen, _ = file.Stat()
		return errors.Join(fmt.Errorf("audit: %s: %w", j.path, err), file.Close())
	}
	j.file, j.size = file, size
	return nil
}

// read learns what the file has, and how long its whole lines are. A last line without its end, torn by a crash, is cut off;
// any other line that is none is an error, for what it hides is not known.
func (j *journal) read(file *os.File) (size int64, err error) {
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return size, file.Truncate(size)
		}
		var e entry
		if err = errors.Join(err, json.Unmarshal(line, &e)); err != nil {
			return 0, fmt.Errorf("line at byte %d: %w", size, err)
		}
		j.known.add(&e)
		size += int64(len(line))
	}
}

// ready reports why the file cannot be used; nil as long as nothing is known against it.
func (j *journal) ready() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.problem
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if j.file != nil {
		err = j.file.Close()
	}
	j.file, j.closed = nil, true
	return errors.Join(err, j.lock.Close())
}
