package console_test

import (
	"testing"

	"millrace/services/web/console"
	"millrace/services/web/page/pagetest"
)

func TestThePageIsMadeOfItsOwnFiles(t *testing.T) {
	pagetest.MadeOfOwnFiles(t, console.Handler(), "/console/")
}
