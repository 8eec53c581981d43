package proof

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// They wait more than they work: for brokers that start, for members that join, for a pace. A -parallel given goes before.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		goleak.Cleanup(func(code int) {
			_ = os.RemoveAll(built.dir)
			os.Exit(code)
		}),
		// toxiproxy leaves behind what waits to write to a connection that broke.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"))
}

// built is the binary that all tests of a run share.
var built build

type build struct {
	once sync.Once
	dir  string
	err  error
}

// path returns where millrace is. The first process that a test starts has it built. The processes look for races if the
// tests do.
func (b *build) path() (string, error) {
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "millrace"); b.err != nil {
			return
		}
		args := []string{"build", "-o", b.dir}
		if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
			args = append(args, "-race")
		}
		said, err := exec.CommandContext(context.Background(), "go", append(args, "millrace/services/millrace")...).CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("build millrace: %w: %s", err, said)
		}
	})
	return filepath.Join(b.dir, "millrace"), b.err
}
