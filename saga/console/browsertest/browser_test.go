package browsertest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/tccsaga/tccsaga/saga/sagatest"
)

//go:embed testdata/axe.min.js
var axe string

//go:embed testdata/SHA256SUMS
var checksums string

func TestAxeIsTheOriginal(t *testing.T) {
	sum := sha256.Sum256([]byte(axe))
	if want := hex.EncodeToString(sum[:]) + "  axe.min.js\n"; checksums != want {
		t.Errorf("the checksum of axe.min.js is %q", want)
	}
}

// chromium starts a browser that all tests share.
var chromium = sync.OnceValues(func() (context.Context, error) {
	binary := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			binary = path
			break
		}
	}
	if binary == "" {
		return nil, errors.New("chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(binary), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true))
	allocator, _ := chromedp.NewExecAllocator(context.Background(), options...)
	browser, _ := chromedp.NewContext(allocator)
	return browser, chromedp.Do(browser)
})

// TestMain ends the browser after the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if browser, err := chromium(); err == nil {
		_ = chromedp.Cancel(browser)
	}
	os.Exit(code)
}

// look is how a person looks at the pages.
type look struct {
	width, height int64
	dark          bool
	language      string
	noScript      bool
}

var desktop, phone = look{width: 1280, height: 900, language: "en"}, look{width: 390, height: 844, language: "en"}

// tab is a tab of the browser with a person in front of it. It records what the browser logs.
type tab struct {
	t    *testing.T
	ctx  context.Context
	look look

	mu     sync.Mutex
	log    []string
	dialog string
}

// open opens a tab.
func open(t *testing.T, l look) *tab {
	t.Helper()
	browser, err := chromium()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(closeTab)
	b := &tab{t: t, ctx: ctx, look: l}
	b.do() // opens it; a time limit from here on limits no more than the tests
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	b.ctx = ctx
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	b.do(command(log.Enable, cdp.Empty{}),
		command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.width < 600}),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
		command(emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: "tccsaga", AcceptLanguage: l.language}),
		scripts(!l.noScript))
	return b
}

// command is an action that sends a command of the protocol.
func command[P, R any](c cdp.Command[P, R], parameters P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, parameters)
		return err
	})
}

// scripts enables or disables the scripts of pages.
func scripts(enabled bool) chromedp.Action[chromedp.Void] {
	return command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !enabled})
}

// listen records errors, violations and dialogs.
func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.log = append(b.log, fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		b.log = append(b.log, fmt.Sprintf("exception: %+v", *e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.log = append(b.log, fmt.Sprintf("console.%s: %+v", e.Type, e.Args))
		}
	case *page.EventJavascriptDialogOpening:
		b.dialog = e.Message
		go func() {
			_ = chromedp.Do(b.ctx, command(page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true}))
		}()
	}
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatalf("%v; the log of the browser: %q", err, b.messages())
	}
}

// get runs an action that returns a value.
func get[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, action)
	if err != nil {
		b.t.Fatalf("%v; the log of the browser: %q", err, b.messages())
	}
	return value
}

// eval evaluates a script of the test, also where those of the page are disabled.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	if b.look.noScript {
		b.do(scripts(true))
		defer b.do(scripts(false))
	}
	return get(b, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}

// messages returns what the browser has logged, and forgets it.
func (b *tab) messages() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	logged := b.log
	b.log = nil
	return logged
}

// visit goes to a page and checks it.
func (b *tab) visit(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
	b.check()
}

// check checks the page that the browser shows.
func (b *tab) check() {
	b.t.Helper()
	b.quiet()
	b.fits()
	b.accessible()
}

// quiet checks that the browser has logged nothing, and shown no dialog.
func (b *tab) quiet() {
	b.t.Helper()
	if logged := b.messages(); len(logged) > 0 {
		b.t.Errorf("%s: the browser logs %q", b.url(), logged)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dialog != "" {
		b.t.Errorf("a page shows the dialog %q", b.dialog)
	}
}

// fits checks that the page is not wider than the screen.
func (b *tab) fits() {
	b.t.Helper()
	wide := eval[string](b, `(() => { const e = document.documentElement; if (e.scrollWidth <= e.clientWidth) return "";
		return e.scrollWidth + " > " + e.clientWidth + ": " + [...document.querySelectorAll("body *")].filter(x => x.getBoundingClientRect().right > e.clientWidth + 1)
			.slice(0, 5).map(x => x.tagName + "." + x.className).join(", ") })()`)
	if wide != "" {
		b.t.Errorf("%s at %d pixels: the page is too wide: %s", b.url(), b.look.width, wide)
	}
}

// accessible checks the page with axe-core.
func (b *tab) accessible() {
	b.t.Helper()
	report := eval[string](b, axe+`; axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.map(v => (
		{id: v.id, help: v.help, where: v.nodes.slice(0, 3).map(n => n.html + " " + n.failureSummary)}))))`)
	var violations []struct {
		ID, Help string
		Where    []string
	}
	if err := json.Unmarshal([]byte(report), &violations); err != nil {
		b.t.Fatal(err)
	}
	for _, v := range violations {
		b.t.Errorf("%s (%+v): %s: %s: %s", b.url(), b.look, v.ID, v.Help, strings.Join(v.Where, " | "))
	}
}

func (b *tab) url() string {
	url, _ := chromedp.Run(b.ctx, chromedp.Location())
	return url
}

// text returns the text of the page.
func (b *tab) text() string {
	b.t.Helper()
	return eval[string](b, "document.body.innerText")
}

// shows waits until the page has a text.
func (b *tab) shows(text string) {
	b.t.Helper()
	shown := ""
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%s shows: %s", b.url(), shown)
		}
	}()
	sagatest.Eventually(b.t, "the page shows "+text, func() bool {
		shown = b.text()
		return strings.Contains(shown, text)
	})
}

// click clicks on an element, and waits for the page that follows.
func (b *tab) click(selector string) {
	b.t.Helper()
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		b.t.Fatalf("click on %s at %s: %v; the page: %s", selector, b.url(), err, b.text())
	}
}
