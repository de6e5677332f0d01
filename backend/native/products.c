#include "products.h"

/* With more a panel pays, of 8 bits a little earlier; measured, see backend/quant/native.py. One
   bound for both, so that up to it a row of a model's is the same in any company. */
enum { MAX_FEW_ROWS = 16 };

int product(const Product *p)
{
    if (p->rows <= MAX_FEW_ROWS)
        return multiply_few_rows(p);
    multiply_many_rows(p);
    return 0;
}
