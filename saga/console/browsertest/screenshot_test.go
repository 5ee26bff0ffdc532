package browsertest

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

var screenshots = flag.String("screenshots", "", "write pictures of the pages into this folder")

// TestScreenshots writes the pictures of the README.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("there is no -screenshots")
	}
	sagatest.Must(t, os.MkdirAll(*screenshots, 0o755))
	s := serveTexts(t, "", time.Second, nil)
	darkPhone := phone
	darkPhone.dark = true
	for suffix, l := range map[string]look{"": desktop, "-phone": darkPhone} {
		b := s.as(t, "alice", l)
		for name, address := range map[string]string{
			"home":         s.page(""),
			"transactions": s.page("transactions"),
			"transaction":  s.page("transaction", "gid", "order-3001"),
		} {
			b.do(chromedp.Navigate(address))
			sagatest.Must(t, os.WriteFile(filepath.Join(*screenshots, name+suffix+".png"), get(b, chromedp.FullScreenshot(100)), 0o644))
		}
	}
}
