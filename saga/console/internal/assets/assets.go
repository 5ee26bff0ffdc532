// Package assets has the files that pages load: the style sheet, the scripts and the icon. They
// are part of the program.
package assets

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed files
var embedded embed.FS

// file is a file in memory.
type file struct {
	content []byte
	kind    string
	hash    string
}

// files has the files by name.
var files = load()

var kinds = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

func load() map[string]file {
	loaded := make(map[string]file)
	err := fs.WalkDir(embedded, "files", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || kinds[path.Ext(name)] == "" {
			return err
		}
		content, err := embedded.ReadFile(name)
		sum := sha256.Sum256(content)
		loaded[path.Base(name)] = file{content, kinds[path.Ext(name)], hex.EncodeToString(sum[:8])}
		return err
	})
	if err != nil {
		panic(err) // a file system in memory
	}
	return loaded
}

// Path returns the path of a file below the path of the assets. It has a hash of the content, so
// that a browser keeps the file until it changes. It panics if there is no such file.
func Path(name string) string {
	f, ok := files[name]
	if !ok {
		panic("assets: no file " + name)
	}
	return f.hash + "/" + name
}

// Serve answers a request for a path as Path has returned it.
func Serve(w http.ResponseWriter, r *http.Request, name string) {
	hash, name, _ := strings.Cut(name, "/")
	f, ok := files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	if hash == f.hash {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	} else { // a page of another version of the program
		w.Header().Set("Cache-Control", "no-store")
	}
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.content)
	}
}
