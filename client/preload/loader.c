/*-------------------------------------------------------------------------
 *
 * loader.c
 *	  dlopen, for those who look past us.
 *
 * PHP loads its extensions with RTLD_DEEPBIND: then what an extension needs is
 * looked for in its own libraries first, and it finds libpq's functions there,
 * not ours.  For a library that itself needs libpq, and only for such, that flag
 * is dropped.
 *
 * The C library looks at who calls dlopen, for the directories in which that one's
 * libraries are.  So our function must end in a jump, not in a call: whoever
 * jumped is not seen.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include "preload.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef void *(*Dlopen)(const char *, int);

/* A library's file, mapped. */
typedef struct Image
{
	const char *bytes;
	size_t size;
} Image;

/*
 * The sanitizers' libraries call dlopen while they start, before what they have
 * compiled may run; and what they have compiled ends in no jump.
 */
#define UNSANITIZED __attribute__((no_sanitize("address", "thread", "undefined")))

static UNSANITIZED Dlopen
real(void)
{
	static _Atomic uintptr_t found;
	uintptr_t function = atomic_load_explicit(&found, memory_order_relaxed);

	if (!function)
	{
		function = (uintptr_t) dlsym(RTLD_NEXT, "dlopen");
		atomic_store_explicit(&found, function, memory_order_relaxed);
	}
	return (Dlopen) function;
}

void *
pqp_real_dlopen(const char *file, int mode)
{
	return real()(file, mode);
}

/* NULL: not in the file. */
static const void *
at(const Image *image, size_t offset, size_t n)
{
	return offset <= image->size && n <= image->size - offset ? image->bytes + offset : NULL;
}

static const ElfW(Phdr) * segment(const Image *image, int i)
{
	const ElfW(Ehdr) *header = at(image, 0, sizeof(*header));

	return at(image, header->e_phoff + (size_t) i * sizeof(ElfW(Phdr)), sizeof(ElfW(Phdr)));
}

/* From an address in memory to a place in the file. */
static size_t
offset_of(const Image *image, int nsegments, ElfW(Addr) address)
{
	for (int i = 0; i < nsegments; i++)
	{
		const ElfW(Phdr) *load = segment(image, i);

		if (load && load->p_type == PT_LOAD && address >= load->p_vaddr &&
			address - load->p_vaddr < load->p_filesz)
			return address - load->p_vaddr + load->p_offset;
	}
	return SIZE_MAX;
}

static bool
names_libpq(const Image *image, size_t strings, size_t name)
{
	static const char libpq[] = "libpq.so";
	const char *found = strings < SIZE_MAX - name ? at(image, strings + name, sizeof(libpq)) : NULL;

	return found && memcmp(found, libpq, sizeof(libpq) - 1) == 0;
}

static bool
image_needs_libpq(const Image *image)
{
	const ElfW(Ehdr) *header = at(image, 0, sizeof(*header));
	int n = header ? header->e_phnum : 0;

	if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
		header->e_phentsize != sizeof(ElfW(Phdr)))
		return false;
	for (int i = 0; i < n; i++)
	{
		const ElfW(Phdr) *dynamic = segment(image, i);
		size_t entries, strings = SIZE_MAX;
		const ElfW(Dyn) * entry;

		if (!dynamic || dynamic->p_type != PT_DYNAMIC ||
			!(entry = at(image, dynamic->p_offset, dynamic->p_filesz)))
			continue;
		entries = dynamic->p_filesz / sizeof(*entry);
		for (size_t k = 0; k < entries; k++)
			if (entry[k].d_tag == DT_STRTAB)
				strings = offset_of(image, n, entry[k].d_un.d_ptr);
		for (size_t k = 0; k < entries; k++)
			if (entry[k].d_tag == DT_NEEDED && names_libpq(image, strings, entry[k].d_un.d_val))
				return true;
	}
	return false;
}

/* False also if it cannot be told: what is asked for by a name alone is not looked for. */
static __attribute__((noinline)) bool
needs_libpq(const char *file)
{
	int fd = strchr(file, '/') ? open(file, O_RDONLY | O_CLOEXEC) : -1;
	struct stat st;
	bool needs = false;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
	{
		Image image = { .size = (size_t) st.st_size };
		void *map = mmap(NULL, image.size, PROT_READ, MAP_PRIVATE, fd, 0);

		if (map != MAP_FAILED)
		{
			image.bytes = map;
			needs = image_needs_libpq(&image);
			(void) munmap(map, image.size);
		}
	}
	(void) close(fd);
	return needs;
}

/* The Makefile has it optimized in any case: a jump, see above. */
PQP_EXPORT UNSANITIZED void *
dlopen(const char *file, int mode)
{
	if (mode & RTLD_DEEPBIND && pqp_enabled && file && needs_libpq(file))
		mode &= ~RTLD_DEEPBIND;
	return real()(file, mode);
}
