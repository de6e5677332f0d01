#include "products.h"

/* From more rows on a panel pays; measured, see backend/quant/native.py. */
enum { MAX_FEW_ROWS_OF_4_BITS = 16, MAX_FEW_ROWS_OF_8_BITS = 12 };

int product(const Product *p)
{
    if (p->rows <= (p->bits == 4 ? MAX_FEW_ROWS_OF_4_BITS : MAX_FEW_ROWS_OF_8_BITS))
        return multiply_few_rows(p);
    multiply_many_rows(p);
    return 0;
}
