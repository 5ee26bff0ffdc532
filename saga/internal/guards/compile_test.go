package guards

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// listed is what go list says of a package.
type listed struct {
	Dir, ImportPath, Export string
	GoFiles                 []string
}

// packages lists the packages of the guards, with what they import, compiled.
func packages(t *testing.T) (byDir map[string]listed, exports map[string]string) {
	t.Helper()
	command := exec.Command("go", "list", "-export", "-deps", "-json=Dir,ImportPath,Export,GoFiles", "./saga/...", "./branches/message/...")
	command.Dir, command.Stderr = root, os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	byDir, exports = map[string]listed{}, map[string]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return byDir, exports
		} else if err != nil {
			t.Fatal(err)
		}
		byDir[p.Dir], exports[p.ImportPath] = p, p.Export
	}
}

// TestCompiles checks that the code compiles without each guard.
func TestCompiles(t *testing.T) {
	byDir, exports := packages(t)
	files := token.NewFileSet()
	imports := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	parsed := map[string]*ast.File{}
	for _, g := range guards() {
		path, err := filepath.Abs(filepath.Join(root, g.file))
		if err != nil {
			t.Fatal(err)
		}
		p := byDir[filepath.Dir(path)]
		var all []*ast.File
		for _, name := range p.GoFiles {
			if name == filepath.Base(path) {
				continue
			}
			full := filepath.Join(p.Dir, name)
			if parsed[full] == nil {
				if parsed[full], err = parser.ParseFile(files, full, nil, parser.SkipObjectResolution); err != nil {
					t.Fatal(err)
				}
			}
			all = append(all, parsed[full])
		}
		changed, err := g.without()
		if err != nil {
			continue // TestList says it
		}
		file, err := parser.ParseFile(files, g.file, changed, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		if _, err := (&types.Config{Importer: imports}).Check(p.ImportPath, files, append(all, file), nil); err != nil {
			t.Errorf("%s does not compile without it: %v", g.name, err)
		}
	}
}
