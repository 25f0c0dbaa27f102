/* Runs a fuzz target without a fuzzer: every file of its corpus, then mutants of them with a fixed
 * seed. The targets also link to libFuzzer (clang -fsanitize=fuzzer) in place of this file.
 * Usage: TARGET CORPUS-DIR [ROUNDS]. */
#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* A few edits of the kinds that break parsers: flips, cuts, doubled ranges, splices. */
static void
mutate(GRand *rand, GByteArray *bytes, const GByteArray *other)
{
    for (int edits = g_rand_int_range(rand, 1, 8); edits > 0 && bytes->len > 0; edits--) {
        guint at = (guint) g_rand_int_range(rand, 0, (gint32) bytes->len);
        guint left = MIN(bytes->len - at, 64);
        switch (g_rand_int_range(rand, 0, 5)) {
        case 0:
            bytes->data[at] ^= (guint8) (1u << g_rand_int_range(rand, 0, 8));
            break;
        case 1:
            bytes->data[at] = (guint8) g_rand_int_range(rand, 0, 256);
            break;
        case 2:
            g_byte_array_remove_range(bytes, at, left);
            break;
        case 3: {
            g_autofree guint8 *copy = g_memdup2(bytes->data + at, left);
            g_byte_array_append(bytes, copy, left);
            break;
        }
        default:
            if (other->len > 0) {
                g_byte_array_set_size(bytes, at);
                guint from = (guint) g_rand_int_range(rand, 0, (gint32) other->len);
                g_byte_array_append(bytes, other->data + from, other->len - from);
            }
        }
    }
}

static GPtrArray *
load_corpus(const char *path)
{
    GPtrArray *inputs = g_ptr_array_new_with_free_func((GDestroyNotify) g_byte_array_unref);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        char *text = NULL;
        gsize size = 0;
        if (g_file_get_contents(file, &text, &size, NULL)) {
            g_ptr_array_add(inputs, g_byte_array_new_take((guint8 *) text, size));
        }
    }
    return inputs;
}

int
main(int argc, char **argv)
{
    if (argc < 2) {
        g_printerr("usage: %s CORPUS-DIR [ROUNDS]\n", argv[0]);
        return 2;
    }
    g_autoptr(GPtrArray) inputs = load_corpus(argv[1]);
    int rounds = argc > 2 ? atoi(argv[2]) : 20000;
    if (inputs->len == 0) {
        g_printerr("'%s' has no inputs\n", argv[1]);
        return 1;
    }

    for (guint i = 0; i < inputs->len; i++) {
        const GByteArray *input = inputs->pdata[i];
        LLVMFuzzerTestOneInput(input->data, input->len);
    }
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    for (int i = 0; i < rounds; i++) {
        const GByteArray *input = inputs->pdata[g_rand_int_range(rand, 0, (gint32) inputs->len)];
        const GByteArray *other = inputs->pdata[g_rand_int_range(rand, 0, (gint32) inputs->len)];
        g_autoptr(GByteArray) mutant = g_byte_array_new();
        g_byte_array_append(mutant, input->data, input->len);
        mutate(rand, mutant, other);
        /* A copy of its exact size, so that the address sanitizer sees one byte too far. */
        g_autofree guint8 *exact = g_memdup2(mutant->data, mutant->len);
        LLVMFuzzerTestOneInput(exact, mutant->len);
    }
    return 0;
}
