package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"millrace/services/client"
)

// cursorFile keeps a user's cursor from one run to the next. The zero value keeps nothing.
type cursorFile struct {
	path  string
	user  int64
	saved client.Cursor
}

type keptCursor struct {
	User   int64         `json:"user"`
	Cursor client.Cursor `json:"cursor"`
}

// load returns nil if there is no file yet. If there is no directory for the file, it returns the error now and not at the
// end.
func (f *cursorFile) load() (client.Cursor, error) {
	if f.path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(f.path)); err != nil {
			return nil, fmt.Errorf("cursor file %s cannot be made: %w", f.path, err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cursor file: %w", err)
	}
	var kept keptCursor
	if err := json.Unmarshal(text, &kept); err != nil {
		return nil, fmt.Errorf("cursor file %s: %w", f.path, err)
	}
	if kept.User != f.user {
		return nil, fmt.Errorf("cursor file %s is of user %d, not of %d", f.path, kept.User, f.user)
	}
	return kept.Cursor, nil
}

// save replaces the whole file, so that a crash leaves the old or the new one. It does nothing if nothing has changed.
func (f *cursorFile) save(c client.Cursor) error {
	if f.path == "" || maps.Equal(c, f.saved) {
		return nil
	}
	text, err := json.Marshal(keptCursor{User: f.user, Cursor: c})
	if err != nil {
		return fmt.Errorf("cursor file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*")
	if err != nil {
		return fmt.Errorf("cursor file: %w", err)
	}
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("cursor file: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	f.saved = c
	return nil
}
